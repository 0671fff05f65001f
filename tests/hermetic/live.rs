//! What asks the running system is refused where the root does not run.

use crate::kit::{self, Lab};

/// This host's systemd, if it has one, does not run the root of a test.
#[test]
fn start_and_live_are_refused_where_the_root_does_not_run() {
    let lab = Lab::new();
    let before = lab.tree();
    let refused = lab.run(["apply", "--start"], &lab.root);
    refused.exits(9).says("`--start` asks the running system").says("leave out `--start`");
    assert_eq!(lab.tree(), before);
    lab.apply().exits(0);
    let live = kit::run(lab.command(["verify", "--live"]).arg("--root").arg(&lab.root));
    live.exits(9).says("`--live` asks the running system");
}
