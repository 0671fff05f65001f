//! Where decoded bytes go: hashed if need be, and written to a file. On a processor of its own where one has
//! nothing to do: there the next bytes are decoded meanwhile.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{Builder, Scope};

use rustix::fs::{Advice, FallocateFlags, fadvise, fallocate};
use rustix::io::Errno;

use crate::digest::{BUFFER, Digest, Hasher};
use crate::parallel::{Busy, IdleProcessors};

/// How much is written before the disk is told to begin.
const WRITE_BACK: u64 = 8 << 20;

/// A file in the making.
pub(super) struct Sink {
    file: File,
    sum: Sum,
    written: u64,
    /// Of these the disk has been told.
    begun: u64,
}

/// The digest of what is written.
enum Sum {
    /// Known beforehand, by the archive's own: the same bytes inflate to the same.
    Pinned(Digest),
    Hashed(Hasher),
}

/// A file that is whole.
pub(super) struct Written {
    /// It.
    pub file: File,
    /// Bytes.
    pub size: u64,
    /// Of its content.
    pub sha256: Digest,
}

impl Sink {
    /// The space for `size` bytes is reserved, so that a full disk is noticed early. Hashed is what is not
    /// `pinned`.
    pub(super) fn new(file: File, size: u64, pinned: Option<Digest>) -> io::Result<Self> {
        if size > BUFFER as u64 {
            match fallocate(&file, FallocateFlags::empty(), 0, size) {
                Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        let sum = pinned.map_or_else(|| Sum::Hashed(Hasher::default()), Sum::Pinned);
        Ok(Sink { file, sum, written: 0, begun: 0 })
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.written - self.begun >= WRITE_BACK {
            self.begin();
        }
        if let Sum::Hashed(hasher) = &mut self.sum {
            hasher.update(bytes);
        }
        self.file.write_all_at(bytes, self.written)?;
        self.written += bytes.len() as u64;
        Ok(())
    }

    /// Lets the disk begin with what has been written: the flush at the end finds little left to do. The
    /// kernel starts to write dirty pages that are said not to be needed, and keeps them until then.
    fn begin(&mut self) {
        let length = std::num::NonZeroU64::new(self.written - self.begun);
        // Only advice: where it is not taken, the flush takes longer.
        let _ = fadvise(&self.file, self.begun, length, Advice::DontNeed);
        self.begun = self.written;
    }

    fn finish(mut self) -> Written {
        self.begin();
        let sha256 = match self.sum {
            Sum::Pinned(digest) => digest,
            Sum::Hashed(hasher) => hasher.finish(),
        };
        Written { file: self.file, size: self.written, sha256 }
    }
}

/// A thread that writes while another decodes. It is started when it is first needed.
pub(super) struct WriterThread<'scope, 'env> {
    scope: &'scope Scope<'scope, 'env>,
    idle: &'env IdleProcessors,
    line: Option<Line<'env>>,
    /// What the caller fills while the helper has the other.
    spare: Vec<u8>,
}

/// To the helper and back.
struct Line<'env> {
    to: SyncSender<WriteJob<'env>>,
    from: Receiver<(Sink, Vec<u8>, io::Result<()>)>,
}

struct WriteJob<'env> {
    sink: Sink,
    bytes: Vec<u8>,
    count: usize,
    busy: Busy<'env>,
}

impl<'scope, 'env> WriterThread<'scope, 'env> {
    /// Works within `scope`, while one of `idle` can be had.
    pub(super) fn new(scope: &'scope Scope<'scope, 'env>, idle: &'env IdleProcessors) -> Self {
        WriterThread { scope, idle, line: None, spare: vec![0; BUFFER] }
    }

    /// The line to the helper where a processor is idle for it and a thread can be had.
    fn claim(&mut self) -> Option<(&Line<'env>, Busy<'env>)> {
        let busy = self.idle.claim()?;
        if self.line.is_none() {
            self.line = Line::new(self.scope);
        }
        Some((self.line.as_ref()?, busy))
    }
}

impl<'env> Line<'env> {
    fn new<'scope>(scope: &'scope Scope<'scope, 'env>) -> Option<Self> {
        let (to, jobs) = sync_channel::<WriteJob<'env>>(1);
        let (back, from) = sync_channel(1);
        let work = move || {
            for WriteJob { mut sink, bytes, count, busy } in jobs {
                let written = sink.write(&bytes[..count]);
                drop(busy);
                // Nobody waits for it where the decoder has failed.
                let _ = back.send((sink, bytes, written));
            }
        };
        Builder::new().spawn_scoped(scope, work).ok()?;
        Some(Line { to, from })
    }
}

/// A file that is being written.
pub(super) struct Writer<'helper, 'scope, 'env> {
    helper: &'helper mut WriterThread<'scope, 'env>,
    /// None while the helper has it.
    sink: Option<Sink>,
}

impl<'helper, 'scope, 'env> Writer<'helper, 'scope, 'env> {
    /// Begins `file`, of `size` bytes, whose digest may be `pinned`.
    pub(super) fn new(
        helper: &'helper mut WriterThread<'scope, 'env>,
        file: File,
        size: u64,
        pinned: Option<Digest>,
    ) -> io::Result<Self> {
        Ok(Writer { helper, sink: Some(Sink::new(file, size, pinned)?) })
    }

    /// Writes the first `count` bytes of `buffer`, which is another one afterwards. An error may be that of
    /// the bytes before.
    pub(super) fn write(&mut self, buffer: &mut Vec<u8>, count: usize) -> io::Result<()> {
        let mut sink = self.back()?;
        let Some((line, busy)) = self.helper.claim() else {
            sink.write(&buffer[..count])?;
            self.sink = Some(sink);
            return Ok(());
        };
        let job = WriteJob { sink, bytes: std::mem::take(buffer), count, busy };
        line.to.send(job).map_err(|_| lost())?;
        *buffer = std::mem::take(&mut self.helper.spare);
        Ok(())
    }

    /// What has been written, when all of it is.
    pub(super) fn finish(mut self) -> io::Result<Written> {
        Ok(self.back()?.finish())
    }

    fn back(&mut self) -> io::Result<Sink> {
        if let Some(sink) = self.sink.take() {
            return Ok(sink);
        }
        let line = self.helper.line.as_ref().ok_or_else(lost)?;
        let (sink, bytes, written) = line.from.recv().map_err(|_| lost())?;
        self.helper.spare = bytes;
        written.map(|()| sink)
    }
}

fn lost() -> io::Error {
    io::Error::other("the thread that writes has ended")
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::parallel;

    /// Writes 20 buffers and a half, by a helper where one is idle. Gives whether one has been started.
    fn write(idle: &IdleProcessors, file: File) -> (io::Result<Written>, bool) {
        std::thread::scope(|scope| {
            let mut helper = WriterThread::new(scope, idle);
            let written = || -> io::Result<Written> {
                let mut writer = Writer::new(&mut helper, file, 0, None)?;
                let mut buffer = vec![0; BUFFER];
                for number in 0..=20 {
                    buffer.fill(number);
                    writer.write(&mut buffer, if number < 20 { BUFFER } else { BUFFER / 2 })?;
                }
                writer.finish()
            };
            (written(), helper.line.is_some())
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
