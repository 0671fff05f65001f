//! One HTTP download into a file, with resume, bounded retries, back-off and stall detection.
//!
//! This module must not verify the bytes: `source/fetch.rs` does. The client and its runtime exist only while
//! something is downloaded, so that an offline run opens no socket and needs no certificates.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use reqwest::header::{CONTENT_RANGE, ETAG, HeaderValue, IF_RANGE, RANGE, RETRY_AFTER};
use reqwest::{Client, RequestBuilder, Response, StatusCode, Url};

use crate::digest::{Digest, Hasher};
use crate::error::{Failure, Kind, errno};
use crate::interrupt;
use crate::progress::Bar;
use crate::redacted;
use crate::source::client::{Network, causes, client};

/// Bytes a second below which a connection counts as stalled, even if it gives some.
const SLOWEST: u64 = 1024;

/// Limit of the pause that a server may ask for.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Interval at which a download looks for signals.
const TICK: Duration = Duration::from_millis(100);

/// Download: a URL and the file that it is written to.
pub(super) struct Download<'a> {
    /// URL, http or https.
    pub url: &'a Url,
    /// File that the bytes are appended to if `resume`; it is emptied otherwise.
    pub file: &'a File,
    /// Limit of the file's size in bytes; a longer body is refused.
    pub largest: u64,
    /// The download goes on from what `file` holds.
    pub resume: bool,
}

/// Result of a finished download.
pub(super) struct Done {
    /// Size in bytes.
    pub size: u64,
    /// Digest of all bytes, hashed as they came. None if they came in more than one piece: the pieces may be of
    /// different files.
    pub sha256: Option<Digest>,
}

/// Error of a server that has no such file.
#[derive(Debug, thiserror::Error)]
#[error("not found")]
pub(super) struct NotFound;

/// Reason why one try failed.
enum DownloadError {
    /// Another try may help, after a pause if the server has asked for one.
    Again(String, Option<Duration>),
    /// Another try can't help.
    Final(anyhow::Error),
}

/// State of a download that one try leaves to the next.
struct Received {
    /// Bytes that are in the file.
    size: u64,
    /// The server's strong ETag, so that a later piece is of the same file.
    etag: Option<HeaderValue>,
}

impl Download<'_> {
    /// Downloads the file.
    pub(super) fn run(&self, network: &Network, bar: &Bar) -> anyhow::Result<Done> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            tokio::select! {
                result = self.retry(network, bar) => result,
                failure = wait_for_signal() => Err(failure.into()),
            }
        })
    }

    /// Tries until the file is complete, the failure is final or no try is left.
    async fn retry(&self, network: &Network, bar: &Bar) -> anyhow::Result<Done> {
        let client = client(network)?;
        let size = if self.resume { self.file.metadata()?.len() } else { 0 };
        let mut received = Received { size, etag: None };
        let mut in_pieces = size > 0;
        for attempt in 0.. {
            let before = received.size;
            let error = match self.try_once(&client, network.stall, bar, &mut received).await {
                Ok(sha256) => {
                    let sha256 = Some(sha256).filter(|_| !in_pieces);
                    return Ok(Done { size: received.size, sha256 });
                }
                Err(error) => error,
            };
            match error {
                DownloadError::Final(error) => return Err(error),
                DownloadError::Again(why, _) if attempt >= network.retries => {
                    return Err(self.gave_up(&why, attempt + 1).into());
                }
                DownloadError::Again(why, asked) => {
                    let progressed = received.size > before;
                    let pause = asked.unwrap_or_else(|| back_off(if progressed { 0 } else { attempt }));
                    bar.note(&format!(
                        "{}: {why}; trying again in {:.1} s",
                        redacted::shown(self.url),
                        pause.as_secs_f32()
                    ));
                    tokio::time::sleep(pause.min(LONGEST_PAUSE)).await;
                    in_pieces |= received.size > 0;
                }
            }
        }
        Err(self.gave_up("no try left", 0).into())
    }

    /// Makes the failure of a download after its last try.
    fn gave_up(&self, why: &str, tries: u32) -> Failure {
        let help = if why.contains("certificate") || why.contains("UnknownIssuer") {
            "a private CA or a TLS-inspecting proxy? give its certificate with --ca-file"
        } else {
            "check the network and the proxy variables, or use --source with a directory"
        };
        Failure::new(Kind::Fetch, format!("fetching `{}`: {why} ({tries} tries)", redacted::shown(self.url)))
            .help(help)
    }

    /// Sends one request and writes its body; returns the digest of the body.
    async fn try_once(
        &self,
        client: &Client,
        stall: Duration,
        bar: &Bar,
        received: &mut Received,
    ) -> Result<Digest, DownloadError> {
        let request = self.request(client, received);
        let response = request.send().await.map_err(|error| self.failed(&error))?;
        self.accept(&response, received)?;
        self.file.set_len(received.size).map_err(|error| unwritable(&error))?;
        bar.length(response.content_length().map(|rest| rest + received.size));
        self.receive(response, stall, bar, received).await
    }

    /// Asks for what is missing, on condition that the file is still the same.
    fn request(&self, client: &Client, received: &Received) -> RequestBuilder {
        let request = client.get(self.url.clone());
        if received.size == 0 {
            return request;
        }
        let done = received.size;
        let request = request.header(RANGE, format!("bytes={done}-"));
        match &received.etag {
            Some(etag) => request.header(IF_RANGE, etag.clone()),
            None => request,
        }
    }

    /// Judges the answer's status: the body is the whole file, or the piece that was asked for.
    fn accept(&self, response: &Response, received: &mut Received) -> Result<(), DownloadError> {
        match response.status() {
            StatusCode::OK => received.size = 0,
            StatusCode::PARTIAL_CONTENT if starts_at(response, received.size) => {}
            // A range that was not asked for, or one beyond the end: the next try begins at the start.
            StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE => {
                *received = Received { size: 0, etag: None };
                return Err(DownloadError::Again(
                    "the server answered with another range".to_owned(),
                    Some(Duration::ZERO),
                ));
            }
            status => return Err(self.refused(status, response)),
        }
        let etag = response.headers().get(ETAG);
        received.etag = etag.filter(|etag| !etag.as_bytes().starts_with(b"W/")).cloned();
        Ok(())
    }

    /// Writes the body as it comes, and hashes it.
    async fn receive(
        &self,
        mut response: Response,
        stall: Duration,
        bar: &Bar,
        received: &mut Received,
    ) -> Result<Digest, DownloadError> {
        let (mut throughput, mut hasher) = (Throughput::new(stall), Hasher::default());
        while let Some(chunk) = response.chunk().await.map_err(|error| self.failed(&error))? {
            if received.size + chunk.len() as u64 > self.largest {
                let shown = redacted::shown(self.url);
                let message = format!("`{}` has more than the expected {} bytes", shown, self.largest);
                let failure = Failure::new(Kind::Unverified, message)
                    .help("it is another file than the one that was pinned");
                return Err(DownloadError::Final(failure.into()));
            }
            self.file.write_all_at(&chunk, received.size).map_err(|error| unwritable(&error))?;
            hasher.update(&chunk);
            received.size += chunk.len() as u64;
            bar.position(received.size);
            throughput.require(chunk.len() as u64)?;
        }
        Ok(hasher.finish())
    }

    /// Makes the error of a connection: a redirect that was refused is final.
    fn failed(&self, error: &reqwest::Error) -> DownloadError {
        let why = causes(error);
        if !error.is_redirect() && !error.is_builder() {
            return DownloadError::Again(why, None);
        }
        let failure = Failure::new(Kind::Fetch, format!("fetching `{}`: {why}", redacted::shown(self.url)));
        DownloadError::Final(failure.help("give the URL that it should come from with --source").into())
    }

    /// Makes the error of an answer that is not the file.
    fn refused(&self, status: StatusCode, response: &Response) -> DownloadError {
        let again = status.is_server_error()
            || matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT);
        if again {
            let seconds =
                response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
            return DownloadError::Again(
                format!("the server answered {status}"),
                seconds.map(Duration::from_secs),
            );
        }
        let failure = Failure::new(
            Kind::Fetch,
            format!("fetching `{}`: the server answered {status}", redacted::shown(self.url)),
        );
        let failure = failure.help("does this version exist there? a mirror has to keep upstream's paths");
        match status {
            StatusCode::NOT_FOUND | StatusCode::GONE => {
                DownloadError::Final(anyhow::Error::new(failure.absent()).context(NotFound))
            }
            // S3's answer for a missing file to clients that may not list the bucket.
            StatusCode::FORBIDDEN => DownloadError::Final(failure.absent().into()),
            _ => DownloadError::Final(failure.into()),
        }
    }
}

/// Throughput of a connection, measured because a server that gives one byte a second never runs into a read
/// timeout.
struct Throughput {
    window: Duration,
    since: Instant,
    bytes: u64,
}

impl Throughput {
    fn new(window: Duration) -> Self {
        Throughput { window, since: Instant::now(), bytes: 0 }
    }

    /// Counts bytes, and fails at the end of a window that had too few.
    fn require(&mut self, bytes: u64) -> Result<(), DownloadError> {
        self.bytes += bytes;
        if self.since.elapsed() < self.window {
            return Ok(());
        }
        let enough = self.bytes >= SLOWEST * self.window.as_secs().max(1);
        *self = Throughput::new(self.window);
        match enough {
            true => Ok(()),
            false => Err(DownloadError::Again(format!("stalled: less than {SLOWEST} bytes a second"), None)),
        }
    }
}

/// Returns whether the body of a partial answer begins at `offset`.
fn starts_at(response: &Response, offset: u64) -> bool {
    let range = response.headers().get(CONTENT_RANGE).and_then(|value| value.to_str().ok());
    let start = range.and_then(|range| range.strip_prefix("bytes ")?.split('-').next()?.parse().ok());
    start == Some(offset)
}

fn unwritable(error: &std::io::Error) -> DownloadError {
    let failure = Failure::filesystem("writing", "a download", errno(error))
        .help("choose another place with --cache-dir or TMPDIR");
    DownloadError::Final(failure.into())
}

/// Returns pauses of 0.5, 1, 2, 4 … seconds, each made up to a quarter longer so that a fleet's builds do not all
/// come back at once.
#[expect(clippy::disallowed_methods, reason = "the clock is only a source of jitter")]
fn back_off(attempt: u32) -> Duration {
    let base = Duration::from_millis(500) * 2_u32.saturating_pow(attempt.min(6));
    let jitter = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |now| now.subsec_nanos());
    base + base / 4 * (jitter % 1000) / 1000
}

/// Returns once a signal has arrived.
async fn wait_for_signal() -> Failure {
    loop {
        if let Err(failure) = interrupt::check() {
            return failure;
        }
        tokio::time::sleep(TICK).await;
    }
}
