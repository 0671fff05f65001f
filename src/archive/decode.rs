//! Decodes verified artifacts: every member that the catalogue names becomes a file without a name, with its
//! digest, which can be installed in one root or in many.
//!
//! This module must not create a name in a root: a run that is killed while it decodes leaves no file behind.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::archive;
use crate::archive::check::check;
use crate::archive::writer::{Writer, WriterThread, Written};
use crate::artifact::Artifact;
use crate::catalog::{Component, MemberRule};
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

/// An artifact whose members have all been read and checked.
pub(crate) struct Decoded {
    /// The artifact.
    pub artifact: Artifact,
    /// Members to install, sorted by name.
    pub members: Vec<DecodedMember>,
    /// Names of the archive's other members.
    pub ignored: Vec<String>,
}

/// One member of an artifact, decoded to a file.
pub(crate) struct DecodedMember {
    /// Name in the artifact.
    pub name: String,
    /// Path in the root to install it at.
    pub path: ImagePath,
    /// Length in bytes.
    pub size: u64,
    /// Digest of the content.
    pub sha256: Digest,
    /// The glibc that the executable needs; `None` for a static one.
    pub needs_glibc: Option<Glibc>,
    file: File,
    /// The file is on the root's own filesystem and has no name yet.
    nameless: AtomicBool,
}

/// Filesystem that holds decoded members until they are installed.
pub(crate) enum Destination<'a> {
    /// This root's own filesystem, so that a link installs them; the given directory if it has no O_TMPFILE.
    Root(&'a Root, &'a Path),
    /// This directory of the host.
    Scratch(&'a Path),
}

impl DecodedMember {
    /// Returns the content, which must be read by position.
    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// Installs the content at `path` in `root`: the first time by a link, later by a copy.
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

/// Decodes `fetched`, on two processors while one is `idle`. Fails unless each executable is a complete ELF
/// file of the artifact's architecture and, if it tells one, version.
pub(crate) fn decode(
    fetched: &Fetched,
    destination: &Destination,
    idle: &IdleProcessors,
) -> anyhow::Result<Decoded> {
    std::thread::scope(|scope| decode_members(fetched, destination, WriterThread::new(scope, idle)))
}

fn decode_members(
    fetched: &Fetched,
    destination: &Destination,
    writer_thread: WriterThread,
) -> anyhow::Result<Decoded> {
    let artifact = fetched.artifact.clone();
    let label = format!("{artifact}, `{}`", artifact.file_name());
    let component = artifact.catalogued();
    let mut decoder = Decoder { artifact: &artifact, destination, writer_thread };
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
    require_members(component, &members, &label)?;
    members.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(Decoded { artifact, members, ignored })
}

/// Fails if the artifact lacks a member that its component requires.
fn require_members(component: &Component, members: &[DecodedMember], label: &str) -> Result<(), Failure> {
    let has = |name: &str| members.iter().any(|member| member.name == name);
    let Some(name) = component.required.iter().find(|name| !has(name)) else { return Ok(()) };
    let message = format!("{label} has no member `{name}`");
    Err(Failure::new(Kind::Unverified, message).help("is it the right file for this component?"))
}

/// Decoder for the members of one artifact.
struct Decoder<'a, 'scope, 'env> {
    artifact: &'a Artifact,
    destination: &'a Destination<'a>,
    writer_thread: WriterThread<'scope, 'env>,
}

impl Decoder<'_, '_, '_> {
    /// Decodes and checks one member.
    fn member(
        &mut self,
        rule: &MemberRule,
        path: ImagePath,
        found: archive::Member,
    ) -> anyhow::Result<DecodedMember> {
        let name = found.name;
        let (file, nameless) = self.create_file(rule)?;
        // An artifact that is no archive is always hashed: its own digest is compared with the result.
        let pinned = self.artifact.members.get(name).filter(|_| !self.artifact.catalogued().raw);
        let Some(Written { file, size, sha256 }) = self.copy(found, file, pinned, path.as_str())? else {
            let message = format!("{}: member `{}` is truncated", self.artifact, printable(name));
            return Err(Failure::new(Kind::Unverified, message).into());
        };
        let needs_glibc = if rule.script { None } else { check(self.artifact, name, &file)? };
        let nameless = AtomicBool::new(nameless);
        Ok(DecodedMember { name: name.to_owned(), path, size, sha256, needs_glibc, file, nameless })
    }

    /// Copies a member to `file`; `None` if it is shorter than its header says.
    fn copy(
        &mut self,
        found: archive::Member,
        file: File,
        pinned: Option<&Digest>,
        shown: &str,
    ) -> anyhow::Result<Option<Written>> {
        let archive::Member { size, content, .. } = found;
        let failed = |error| Failure::filesystem("writing", shown, errno(&error));
        let mut writer = Writer::new(&mut self.writer_thread, file, size, pinned.copied()).map_err(failed)?;
        let mut buffer = vec![0; BUFFER];
        loop {
            interrupt::check()?;
            // An archive's defects are reported by `archive::read`; for a single file it is a disk error.
            let count = fill(content, &mut buffer)
                .map_err(|error| Failure::filesystem("reading the source of", shown, errno(&error)))?;
            if count == 0 {
                let written = writer.finish().map_err(failed)?;
                return Ok((written.size == size).then_some(written));
            }
            writer.write(&mut buffer, count).map_err(failed)?;
        }
    }

    /// Creates a file for one member. Returns it and whether it can be linked into the root.
    fn create_file(&self, rule: &MemberRule) -> Result<(File, bool), Failure> {
        match self.destination {
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

/// Reads until `buffer` is full or the content ends, because few large writes cost less than many small ones.
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

/// Fails if a single file is a web page instead of an executable.
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
