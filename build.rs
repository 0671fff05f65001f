//! Generates the client of the Kubernetes CRI from its published definition, without protoc.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=src/live/cri.proto");
    let definition = protox::compile(["src/live/cri.proto"], ["src/live"])?;
    tonic_prost_build::configure().build_server(false).compile_fds(definition)?;
    Ok(())
}
