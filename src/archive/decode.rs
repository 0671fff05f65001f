//! Verified artifacts, decoded once: every member that the catalogue names becomes a file without
//! a name, with its digest, ready to be given a place in one root or in many.
//!
//! Nothing here has a name in a root: a run that dies while it decodes leaves nothing behind.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::archive;
use crate::archive::check::check;
use crate::archive::writer::{Writer, WriterThread, Written};
use crate::artifact::Artifact;
use crate::catalog::MemberRule;
use crate::digest::{BUFFER, Digest};
use crate::error::{Failure, Kind, errno};
use crate::format::elf::Glibc;
use crate::interrupt;
use crate::node::EXECUTABLE;
use crate::parallel::IdleProcessors;
use crate::path::ImagePath;
use crate::printable::printable;
use crate::root::Root;
use crate::source::fetch::{self, Fetched};
use crate::source::section::Section;

/// An artifact whose members have all been read.
pub(crate) struct Decoded {
    /// What it is.
    pub artifact: Artifact,
    /// What is installed of it, sorted by name.
    pub members: Vec<DecodedMember>,
    /// What the archive holds beside that.
    pub ignored: Vec<String>,
}

/// One executable of an artifact.
pub(crate) struct DecodedMember {
    /// Its name in the artifact.
    pub name: String,
    /// Where it goes.
    pub path: ImagePath,
    /// Bytes.
    pub size: u64,
    /// Of its content.
    pub sha256: Digest,
    /// The glibc that it needs; none for a static one.
    pub needs_glibc: Option<Glibc>,
    /// Its content.
    file: File,
    /// The file is on the root's own filesystem and has no name yet.
    nameless: AtomicBool,
}

/// Where decoded members are kept until they are installed.
pub(crate) enum Destination<'a> {
    /// On this root's own filesystem, so that a link installs them; elsewhere in `scratch` where it can't.
    Root(&'a Root, &'a Path),
    /// In this directory of the host.
    Scratch(&'a Path),
}

impl DecodedMember {
    /// The content, for reading by position.
    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// Gives the content the name `path` in `root`: the first time by a link, later by a copy.
    pub(crate) fn install(&self, root: &Root, path: &ImagePath, mtime: i64) -> Result<(), Failure> {
        if self.nameless.swap(false, Ordering::AcqRel) {
            root.finish(&self.file, path, EXECUTABLE, mtime)?;
            if root.link_anonymous(&self.file, path)? {
                return Ok(());
            }
        }
        root.copy_new(&self.file, self.size, path, EXECUTABLE, mtime)
    }
}

/// Decodes `fetched`, with a second processor while one is `idle`. The executables are checked: each is
/// a whole ELF file of the artifact's architecture, and its version, where it can be read, is the
/// artifact's.
pub(crate) fn decode(
    fetched: &Fetched,
    place: &Destination,
    idle: &IdleProcessors,
) -> anyhow::Result<Decoded> {
    std::thread::scope(|scope| decode_members(fetched, place, WriterThread::new(scope, idle)))
}

fn decode_members(fetched: &Fetched, place: &Destination, helper: WriterThread) -> anyhow::Result<Decoded> {
    let artifact = fetched.artifact.clone();
    let label = format!("{artifact}, `{}`", artifact.file_name());
    let component = artifact.catalogued();
    let mut decoder = Decoder { artifact: &artifact, place, helper };
    let (mut members, mut ignored) = (Vec::new(), Vec::new());
    let mut take = |found: archive::Member| -> anyhow::Result<()> {
        match component.rule(found.name) {
            Some((rule, path)) => members.push(decoder.member(rule, path, found)?),
            None => ignored.push(found.name.to_owned()),
        }
        Ok(())
    };
    let parsed = if component.raw {
        refuse_html(&fetched.bytes, &label)?;
        let mut content = fetched.bytes.reader();
        take(archive::Member {
            name: artifact.file_name(),
            size: fetched.bytes.size(),
            content: &mut content,
        })?;
        members.first().map(|member| member.sha256)
    } else {
        archive::read(&fetched.bytes, &label, !fetched.private, take)?
    };
    if let Some(parsed) = parsed.filter(|parsed| *parsed != artifact.sha256) {
        return Err(fetched.changed(parsed).into());
    }
    let missing = component
        .required
        .iter()
        .find(|name| !members.iter().any(|member: &DecodedMember| member.name == **name));
    if let Some(name) = missing {
        let message = format!("{label} has no member `{name}`");
        return Err(Failure::new(Kind::Unverified, message)
            .help("is it the right file for this component?")
            .into());
    }
    members.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(Decoded { artifact, members, ignored })
}

/// What is the same for all members of an artifact.
struct Decoder<'a, 'scope, 'env> {
    artifact: &'a Artifact,
    place: &'a Destination<'a>,
    helper: WriterThread<'scope, 'env>,
}

impl Decoder<'_, '_, '_> {
    fn member(
        &mut self,
        rule: &MemberRule,
        path: ImagePath,
        found: archive::Member,
    ) -> anyhow::Result<DecodedMember> {
        let name = found.name;
        let (file, nameless) = self.room(rule)?;
        // What is no archive is hashed: it is what the artifact's own digest is compared with.
        let pinned = self.artifact.members.get(name).filter(|_| !self.artifact.catalogued().raw);
        let Some(Written { file, size, sha256 }) = self.copy(found, file, pinned, path.as_str())? else {
            let message = format!("{}: member `{}` is truncated", self.artifact, printable(name));
            return Err(Failure::new(Kind::Unverified, message).into());
        };
        let needs_glibc = if rule.script { None } else { check(self.artifact, name, &file)? };
        let nameless = AtomicBool::new(nameless);
        Ok(DecodedMember { name: name.to_owned(), path, size, sha256, needs_glibc, file, nameless })
    }

    /// Copies a member; none where it is shorter than it says.
    fn copy(
        &mut self,
        found: archive::Member,
        file: File,
        pinned: Option<&Digest>,
        shown: &str,
    ) -> anyhow::Result<Option<Written>> {
        let archive::Member { size, content, .. } = found;
        let failed = |error| Failure::filesystem("writing", shown, errno(&error));
        let mut writer = Writer::new(&mut self.helper, file, size, pinned.copied()).map_err(failed)?;
        let mut buffer = vec![0; BUFFER];
        loop {
            interrupt::check()?;
            // An archive's own trouble is told by archive.rs; for a single file this is the disk's.
            let count = fill(content, &mut buffer)
                .map_err(|error| Failure::filesystem("reading the source of", shown, errno(&error)))?;
            if count == 0 {
                let written = writer.finish().map_err(failed)?;
                return Ok((written.size == size).then_some(written));
            }
            writer.write(&mut buffer, count).map_err(failed)?;
        }
    }

    /// A file for one member, and whether it can be given a name in the root.
    fn room(&self, rule: &MemberRule) -> Result<(File, bool), Failure> {
        match self.place {
            Destination::Root(root, scratch) => match root.anonymous(rule.directory())? {
                Some(file) => Ok((file, true)),
                None => Ok((temporary(scratch)?, false)),
            },
            Destination::Scratch(scratch) => Ok((temporary(scratch)?, false)),
        }
    }
}

fn temporary(directory: &Path) -> Result<File, Failure> {
    tempfile::tempfile_in(directory).map_err(|error| {
        Failure::filesystem("creating a temporary file in", directory.display(), errno(&error))
    })
}

/// Reads until `buffer` is full or the content ends: large writes are cheaper than many small ones.
fn fill(content: &mut dyn Read, buffer: &mut [u8]) -> std::io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match content.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

fn refuse_html(bytes: &Section, label: &str) -> Result<(), Failure> {
    let mut start = [0; 256];
    let count = bytes.read_at(&mut start, 0).unwrap_or(0);
    match fetch::looks_like_html(&start[..count]) {
        true => {
            Err(Failure::new(Kind::Unverified, format!("{label} is not an executable")).help(fetch::HTML))
        }
        false => Ok(()),
    }
}
