//! One HTTP download into a file, with resume, bounded retries, back-off and stall detection.
//!
//! It does not judge the bytes: that is `source/fetch.rs`. The client and its runtime exist only here and
//! only while something is downloaded, so that an offline run opens no socket and needs no
//! certificates.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use reqwest::header::{CONTENT_RANGE, ETAG, IF_RANGE, RANGE, RETRY_AFTER};
use reqwest::{Client, StatusCode, Url};

use crate::digest::{Digest, Hasher};
use crate::error::{Failure, Kind, errno};
use crate::interrupt;
use crate::printable;
use crate::progress::Bar;
use crate::source::client::{Network, chain, client};

/// A connection that gives less than this is stalled, even if it gives something.
const SLOWEST: u64 = 1024;

const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// How often a pause or a silent connection is interrupted to look for signals.
const TICK: Duration = Duration::from_millis(100);

/// What is downloaded, and where to.
pub(super) struct Download<'a> {
    /// http or https.
    pub url: &'a Url,
    /// Grows from its present length if `resume`, else from nothing.
    pub file: &'a File,
    /// A longer body is refused.
    pub largest: u64,
    /// Go on from what `file` holds.
    pub resume: bool,
}

/// A finished download.
pub(super) struct Done {
    /// Bytes.
    pub size: u64,
    /// Of all bytes, hashed as they came. None: it came in more than one piece, and the pieces may be of
    /// different files.
    pub sha256: Option<Digest>,
}

/// The server says that there is no such file.
#[derive(Debug, thiserror::Error)]
#[error("not found")]
pub(super) struct NotFound;

/// Why one try failed.
enum DownloadError {
    /// Try again, after this long if the server said so.
    Again(String, Option<Duration>),
    /// Trying again can't help.
    Final(anyhow::Error),
}

impl Download<'_> {
    /// Runs it.
    pub(super) fn run(&self, network: &Network, bar: &Bar) -> anyhow::Result<Done> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            tokio::select! {
                result = self.retry(network, bar) => result,
                failure = signal() => Err(failure.into()),
            }
        })
    }

    async fn retry(&self, network: &Network, bar: &Bar) -> anyhow::Result<Done> {
        let client = client(network)?;
        let mut done = if self.resume { self.file.metadata()?.len() } else { 0 };
        let mut etag = None;
        let mut pieced = done > 0;
        for attempt in 0.. {
            let before = done;
            let trouble = match self.once(&client, network, bar, &mut done, &mut etag).await {
                Ok(sha256) => return Ok(Done { size: done, sha256: Some(sha256).filter(|_| !pieced) }),
                Err(trouble) => trouble,
            };
            match trouble {
                DownloadError::Final(error) => return Err(error),
                DownloadError::Again(why, _) if attempt >= network.retries => {
                    return Err(self.gave_up(&why, attempt + 1).into());
                }
                DownloadError::Again(why, asked) => {
                    let pause = asked.unwrap_or_else(|| back_off(if done > before { 0 } else { attempt }));
                    bar.note(&format!(
                        "{}: {why}; trying again in {:.1} s",
                        printable::shown(self.url),
                        pause.as_secs_f32()
                    ));
                    tokio::time::sleep(pause.min(LONGEST_PAUSE)).await;
                    pieced |= done > 0;
                }
            }
        }
        Err(self.gave_up("no try left", 0).into())
    }

    fn gave_up(&self, why: &str, tries: u32) -> Failure {
        let help = if why.contains("certificate") || why.contains("UnknownIssuer") {
            "a private CA or a TLS-inspecting proxy? give its certificate with --ca-file"
        } else {
            "check the network and the proxy variables, or use --source with a directory"
        };
        Failure::new(Kind::Fetch, format!("fetching `{}`: {why} ({tries} tries)", printable::shown(self.url)))
            .help(help)
    }

    /// Gives the digest of the bytes that it has got.
    async fn once(
        &self,
        client: &Client,
        network: &Network,
        bar: &Bar,
        done: &mut u64,
        etag: &mut Option<reqwest::header::HeaderValue>,
    ) -> Result<Digest, DownloadError> {
        let mut request = client.get(self.url.clone());
        if *done > 0 {
            request = request.header(RANGE, format!("bytes={done}-"));
            if let Some(etag) = &etag {
                request = request.header(IF_RANGE, etag.clone());
            }
        }
        let mut response = request.send().await.map_err(|error| self.trouble(&error))?;
        match response.status() {
            StatusCode::OK => *done = 0,
            StatusCode::PARTIAL_CONTENT if starts_at(&response, *done) => {}
            // A range that was not asked for, or one beyond the end: from the start.
            StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE => {
                *done = 0;
                *etag = None;
                return Err(DownloadError::Again(
                    "the server answered with another range".to_owned(),
                    Some(Duration::ZERO),
                ));
            }
            status => return Err(self.refused(status, &response)),
        }
        *etag = response.headers().get(ETAG).filter(|etag| !etag.as_bytes().starts_with(b"W/")).cloned();
        self.file.set_len(*done).map_err(|error| unwritable(&error))?;
        bar.length(response.content_length().map(|rest| rest + *done));
        let (mut throughput, mut hasher) = (Throughput::new(network.stall), Hasher::default());
        while let Some(chunk) = response.chunk().await.map_err(|error| self.trouble(&error))? {
            if *done + chunk.len() as u64 > self.largest {
                let message = format!(
                    "`{}` has more than the expected {} bytes",
                    printable::shown(self.url),
                    self.largest
                );
                let failure = Failure::new(Kind::Unverified, message)
                    .help("it is another file than the one that was pinned");
                return Err(DownloadError::Final(failure.into()));
            }
            self.file.write_all_at(&chunk, *done).map_err(|error| unwritable(&error))?;
            hasher.update(&chunk);
            *done += chunk.len() as u64;
            bar.position(*done);
            throughput.require(chunk.len() as u64)?;
        }
        Ok(hasher.finish())
    }

    fn trouble(&self, error: &reqwest::Error) -> DownloadError {
        let why = chain(error);
        if !error.is_redirect() && !error.is_builder() {
            return DownloadError::Again(why, None);
        }
        let failure = Failure::new(Kind::Fetch, format!("fetching `{}`: {why}", printable::shown(self.url)));
        DownloadError::Final(failure.help("give the URL that it should come from with --source").into())
    }

    fn refused(&self, status: StatusCode, response: &reqwest::Response) -> DownloadError {
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
            format!("fetching `{}`: the server answered {status}", printable::shown(self.url)),
        );
        let failure = failure.help("does this version exist there? a mirror has to keep upstream's paths");
        match status {
            StatusCode::NOT_FOUND | StatusCode::GONE => {
                DownloadError::Final(anyhow::Error::new(failure.absent()).context(NotFound))
            }
            // What S3 says of a missing file to those who may not list.
            StatusCode::FORBIDDEN => DownloadError::Final(failure.absent().into()),
            _ => DownloadError::Final(failure.into()),
        }
    }
}

/// Ends a trickle: a server that gives one byte a second never runs into a read timeout.
struct Throughput {
    window: Duration,
    since: Instant,
    bytes: u64,
}

impl Throughput {
    fn new(window: Duration) -> Self {
        Throughput { window, since: Instant::now(), bytes: 0 }
    }

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

fn starts_at(response: &reqwest::Response, offset: u64) -> bool {
    let range = response.headers().get(CONTENT_RANGE).and_then(|value| value.to_str().ok());
    let start = range.and_then(|range| range.strip_prefix("bytes ")?.split('-').next()?.parse().ok());
    start == Some(offset)
}

fn unwritable(error: &std::io::Error) -> DownloadError {
    let failure = Failure::filesystem("writing", "a download", errno(error))
        .help("choose another place with --cache-dir or TMPDIR");
    DownloadError::Final(failure.into())
}

/// 0.5, 1, 2, 4 … seconds, each made up to a quarter longer so that a fleet does not come back at once.
#[expect(clippy::disallowed_methods, reason = "the clock is only a source of jitter")]
fn back_off(attempt: u32) -> Duration {
    let base = Duration::from_millis(500) * 2_u32.saturating_pow(attempt.min(6));
    let jitter = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |now| now.subsec_nanos());
    base + base / 4 * (jitter % 1000) / 1000
}

async fn signal() -> Failure {
    loop {
        if let Err(failure) = interrupt::check() {
            return failure;
        }
        tokio::time::sleep(TICK).await;
    }
}
