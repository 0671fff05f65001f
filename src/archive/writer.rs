//! Hashes and writes decoded bytes, in a second thread if a processor is idle, while the next bytes are decoded.
//!
//! This module must not know where the bytes come from.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{Builder, Scope};

use rustix::fs::{Advice, FallocateFlags, fadvise, fallocate};
use rustix::io::Errno;

use crate::digest::{BUFFER, Digest, Hasher};
use crate::parallel::{Busy, IdleProcessors};

/// Bytes after which the kernel is asked to start writing to the disk.
const WRITE_BACK: u64 = 8 << 20;

/// Writer of one file, which writes in the thread while a processor is idle.
pub(super) struct Writer<'thread, 'scope, 'env> {
    thread: &'thread mut WriterThread<'scope, 'env>,
    /// The file; `None` while the thread writes to it.
    output: Option<OutputFile>,
}

impl<'thread, 'scope, 'env> Writer<'thread, 'scope, 'env> {
    /// Creates a writer for `file`, of `size` bytes; the content is hashed unless its digest is `pinned`.
    pub(super) fn new(
        thread: &'thread mut WriterThread<'scope, 'env>,
        file: File,
        size: u64,
        pinned: Option<Digest>,
    ) -> io::Result<Self> {
        Ok(Writer { thread, output: Some(OutputFile::new(file, size, pinned)?) })
    }

    /// Writes the first `count` bytes of `buffer`, which may be replaced by another buffer. The error can be
    /// that of an earlier write.
    pub(super) fn write(&mut self, buffer: &mut Vec<u8>, count: usize) -> io::Result<()> {
        let mut output = self.take_output()?;
        let Some((channels, busy)) = self.thread.idle_channels() else {
            output.write(&buffer[..count])?;
            self.output = Some(output);
            return Ok(());
        };
        let job = WriteJob { output, bytes: std::mem::take(buffer), count, busy };
        channels.jobs.send(job).map_err(|_| thread_ended())?;
        *buffer = std::mem::take(&mut self.thread.spare);
        Ok(())
    }

    /// Waits until all bytes are written and returns the file.
    pub(super) fn finish(mut self) -> io::Result<Written> {
        Ok(self.take_output()?.finish())
    }

    /// Takes the file, for which it waits while the thread writes to it.
    fn take_output(&mut self) -> io::Result<OutputFile> {
        if let Some(output) = self.output.take() {
            return Ok(output);
        }
        let channels = self.thread.channels.as_ref().ok_or_else(thread_ended)?;
        let (output, bytes, written) = channels.results.recv().map_err(|_| thread_ended())?;
        self.thread.spare = bytes;
        written.map(|()| output)
    }
}

/// A completely written file.
pub(super) struct Written {
    /// The file.
    pub file: File,
    /// Length in bytes.
    pub size: u64,
    /// Digest of the content.
    pub sha256: Digest,
}

/// Thread that writes while another decodes; it is started when it is first needed.
pub(super) struct WriterThread<'scope, 'env> {
    scope: &'scope Scope<'scope, 'env>,
    idle: &'env IdleProcessors,
    channels: Option<Channels<'env>>,
    /// Buffer that the caller fills while the thread writes the other one.
    spare: Vec<u8>,
}

/// Channels to the thread and back.
struct Channels<'env> {
    jobs: SyncSender<WriteJob<'env>>,
    results: Receiver<(OutputFile, Vec<u8>, io::Result<()>)>,
}

/// Bytes for the thread to write.
struct WriteJob<'env> {
    output: OutputFile,
    bytes: Vec<u8>,
    count: usize,
    busy: Busy<'env>,
}

impl<'scope, 'env> WriterThread<'scope, 'env> {
    /// Prepares a thread of `scope` that works only while one of the processors is `idle`.
    pub(super) fn new(scope: &'scope Scope<'scope, 'env>, idle: &'env IdleProcessors) -> Self {
        WriterThread { scope, idle, channels: None, spare: vec![0; BUFFER] }
    }

    /// Returns the channels to the thread if a processor is idle and the thread could be started.
    fn idle_channels(&mut self) -> Option<(&Channels<'env>, Busy<'env>)> {
        let busy = self.idle.claim()?;
        if self.channels.is_none() {
            self.channels = Channels::new(self.scope);
        }
        Some((self.channels.as_ref()?, busy))
    }
}

impl<'env> Channels<'env> {
    fn new<'scope>(scope: &'scope Scope<'scope, 'env>) -> Option<Self> {
        let (jobs, received) = sync_channel::<WriteJob<'env>>(1);
        let (sender, results) = sync_channel(1);
        let work = move || {
            for WriteJob { mut output, bytes, count, busy } in received {
                let written = output.write(&bytes[..count]);
                drop(busy);
                // An error means that the decoder has failed and nobody waits for the result.
                let _ = sender.send((output, bytes, written));
            }
        };
        Builder::new().spawn_scoped(scope, work).ok()?;
        Some(Channels { jobs, results })
    }
}

/// A file that is being written.
struct OutputFile {
    file: File,
    digest: ContentDigest,
    length: u64,
    /// Bytes of which the kernel was asked to start writing.
    started: u64,
}

/// Digest of a file's content.
enum ContentDigest {
    /// The digest is known, because that of the archive is: the same bytes inflate to the same content.
    Pinned(Digest),
    Hashed(Hasher),
}

impl OutputFile {
    /// Reserves the space for `size` bytes, so that a full disk is noticed early.
    fn new(file: File, size: u64, pinned: Option<Digest>) -> io::Result<Self> {
        if size > BUFFER as u64 {
            match fallocate(&file, FallocateFlags::empty(), 0, size) {
                Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        let digest = pinned.map_or_else(|| ContentDigest::Hashed(Hasher::default()), ContentDigest::Pinned);
        Ok(OutputFile { file, digest, length: 0, started: 0 })
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.length - self.started >= WRITE_BACK {
            self.start_write_back();
        }
        if let ContentDigest::Hashed(hasher) = &mut self.digest {
            hasher.update(bytes);
        }
        self.file.write_all_at(bytes, self.length)?;
        self.length += bytes.len() as u64;
        Ok(())
    }

    /// Asks the kernel to start writing, so that the flush at the end takes less time: DONTNEED makes it
    /// write dirty pages to the disk before it drops them.
    fn start_write_back(&mut self) {
        let length = std::num::NonZeroU64::new(self.length - self.started);
        // On an error only the flush takes longer.
        let _ = fadvise(&self.file, self.started, length, Advice::DontNeed);
        self.started = self.length;
    }

    fn finish(mut self) -> Written {
        self.start_write_back();
        let sha256 = match self.digest {
            ContentDigest::Pinned(digest) => digest,
            ContentDigest::Hashed(hasher) => hasher.finish(),
        };
        Written { file: self.file, size: self.length, sha256 }
    }
}

fn thread_ended() -> io::Error {
    io::Error::other("the thread that writes has ended")
}

#[cfg(test)]
mod tests {
    use super::{BUFFER, Digest, Errno, File, IdleProcessors, Writer, WriterThread, Written, io};

    use crate::parallel;

    /// Writes 20 buffers and a half. Returns the file and whether a thread was started.
    fn write(idle: &IdleProcessors, file: File) -> (io::Result<Written>, bool) {
        std::thread::scope(|scope| {
            let mut thread = WriterThread::new(scope, idle);
            let written = || -> io::Result<Written> {
                let mut writer = Writer::new(&mut thread, file, 0, None)?;
                let mut buffer = vec![0; BUFFER];
                for number in 0..=20 {
                    buffer.fill(number);
                    writer.write(&mut buffer, if number < 20 { BUFFER } else { BUFFER / 2 })?;
                }
                writer.finish()
            };
            (written(), thread.channels.is_some())
        })
    }

    #[test]
    fn a_helper_writes_what_its_caller_would() {
        let idle = IdleProcessors::all();
        let (helped, started) = write(&idle, tempfile::tempfile().unwrap());
        assert!(started, "no processor was idle");
        let busy: Vec<_> = (0..parallel::processors()).map(|_| idle.work()).collect();
        let (alone, started) = write(&idle, tempfile::tempfile().unwrap());
        assert!(!started, "{} processors are busy", busy.len());
        let (helped, alone) = (helped.unwrap(), alone.unwrap());
        assert_eq!(helped.sha256, alone.sha256);
        assert_eq!((helped.size, alone.size), (20 * BUFFER as u64 + BUFFER as u64 / 2, helped.size));
        assert_eq!(Digest::of_file(&helped.file).unwrap(), helped.sha256);
    }

    #[test]
    fn an_error_of_the_helper_arrives() {
        let (written, started) = write(&IdleProcessors::all(), File::open("/dev/null").unwrap());
        assert!(started);
        assert_eq!(written.err().and_then(|error| error.raw_os_error()), Some(Errno::BADF.raw_os_error()));
    }
}
