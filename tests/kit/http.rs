//! An HTTP/1.1 server on loopback that answers exactly as a test says: late, cut, too long, or never.
//!
//! It judges no request: tests read them back from [`Server::requests`]. One request a connection, every wait is bounded.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::kit::tally::tally;

/// Longer than any test waits, shorter than a person does.
const PATIENCE: Duration = Duration::from_secs(60);

/// A request as it came in.
#[derive(Clone, Debug)]
pub struct Request {
    pub method: String,
    /// A path, or a whole URL where the server is used as a proxy, or `host:port` for CONNECT.
    pub target: String,
    pub at: Instant,
    headers: Vec<(String, String)>,
}

impl Request {
    /// The path, without a query and without the host that a proxy is told.
    pub fn path(&self) -> &str {
        let target = self.target.split('?').next().unwrap_or_default();
        match target.split_once("://") {
            Some((_, rest)) => rest.find('/').map_or("/", |slash| &rest[slash..]),
            None => target,
        }
    }

    /// The path's last part.
    pub fn file(&self) -> &str {
        self.path().rsplit('/').next().unwrap_or_default()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// N of `Range: bytes=N-`.
    pub fn range_start(&self) -> Option<usize> {
        self.header("range")?.strip_prefix("bytes=")?.split('-').next()?.parse().ok()
    }
}

/// What to answer: a status, headers, a body, and how the body goes wrong.
#[derive(Clone)]
pub struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    framing: Framing,
    ending: Ending,
}

#[derive(Clone)]
enum Framing {
    Length(u64),
    Chunked,
    UntilClose,
}

#[derive(Clone)]
enum Ending {
    Whole,
    Cut(usize),
    Reset(usize),
    Stall(usize),
    Drip { piece: usize, every: Duration },
    Endless,
    Tunnel(SocketAddr),
}

impl Reply {
    pub fn ok(body: impl Into<Vec<u8>>) -> Self {
        let body = body.into();
        let framing = Framing::Length(body.len() as u64);
        Self { status: 200, headers: Vec::new(), body, framing, ending: Ending::Whole }
    }

    pub fn error(status: u16) -> Self {
        Self { status, ..Self::ok(format!("status {status}\n")) }
    }

    pub fn redirect(to: impl Into<String>) -> Self {
        Self { status: 302, ..Self::ok("") }.header("Location", to)
    }

    /// 206 with the bytes from `start` on, correctly labelled.
    pub fn rest_of(whole: &[u8], start: usize) -> Self {
        let range = format!("bytes {start}-{}/{}", whole.len() - 1, whole.len());
        Self { status: 206, ..Self::ok(&whole[start..]) }.header("Content-Range", range)
    }

    /// Whether it is anything else than a whole answer, or a redirect.
    fn is_faulty(&self) -> bool {
        let lies = matches!(self.framing, Framing::Length(length) if length != self.body.len() as u64);
        let whole = matches!(self.ending, Ending::Whole | Ending::Tunnel(_));
        lies || !whole || !matches!(self.status, 200 | 206 | 302)
    }

    /// Joins the client of a CONNECT request with `server`.
    pub fn tunnel(server: SocketAddr) -> Self {
        Self { framing: Framing::UntilClose, ending: Ending::Tunnel(server), ..Self::ok("") }
    }

    pub fn status(self, status: u16) -> Self {
        Self { status, ..self }
    }

    pub fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// Says `Content-Length: length`, whatever the body is.
    pub fn announcing(self, length: usize) -> Self {
        Self { framing: Framing::Length(length as u64), ..self }
    }

    pub fn chunked(self) -> Self {
        Self { framing: Framing::Chunked, ..self }
    }

    /// No length at all: the body ends where the connection does.
    pub fn until_close(self) -> Self {
        Self { framing: Framing::UntilClose, ..self }
    }

    /// Closes the connection in good order after `bytes` of the body.
    pub fn cut(self, bytes: usize) -> Self {
        Self { ending: Ending::Cut(bytes), ..self }
    }

    /// Resets the connection (RST) after `bytes` of the body. Not for TLS.
    pub fn reset(self, bytes: usize) -> Self {
        Self { ending: Ending::Reset(bytes), ..self }
    }

    /// Falls silent after `bytes` of the body, and keeps the connection open.
    pub fn stall(self, bytes: usize) -> Self {
        Self { ending: Ending::Stall(bytes), ..self }
    }

    /// Sends `piece` bytes, waits, sends the next.
    pub fn drip(self, piece: usize, every: Duration) -> Self {
        Self { ending: Ending::Drip { piece, every }, ..self }
    }

    /// Sends the body, then zeros for as long as the client takes them (64 MiB at most).
    pub fn endless(self) -> Self {
        Self { ending: Ending::Endless, ..self }
    }
}

/// Serves until it is dropped.
pub struct Server {
    pub address: SocketAddr,
    scheme: &'static str,
    shared: Arc<Shared>,
}

struct Shared {
    answer: Box<Answer>,
    tls: Option<Arc<ServerConfig>>,
    log: Mutex<Log>,
    sent: AtomicU64,
    stop: AtomicBool,
}

#[derive(Default)]
struct Log {
    requests: Vec<Request>,
    seen: HashMap<(String, String), usize>,
}

/// Gets the request, and how many with the same method and target came before it.
type Answer = dyn Fn(&Request, usize) -> Reply + Send + Sync;

impl Server {
    pub fn http(answer: impl Fn(&Request, usize) -> Reply + Send + Sync + 'static) -> Self {
        Self::start(Box::new(answer), None)
    }

    pub fn https(
        identity: &Identity,
        answer: impl Fn(&Request, usize) -> Reply + Send + Sync + 'static,
    ) -> Self {
        Self::start(Box::new(answer), Some(Arc::clone(&identity.config)))
    }

    fn start(answer: Box<Answer>, tls: Option<Arc<ServerConfig>>) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let scheme = if tls.is_some() { "https" } else { "http" };
        let log = Mutex::default();
        let shared =
            Arc::new(Shared { answer, tls, log, sent: AtomicU64::new(0), stop: AtomicBool::new(false) });
        let accepting = Arc::clone(&shared);
        thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                if accepting.stop.load(Ordering::Relaxed) {
                    return;
                }
                let shared = Arc::clone(&accepting);
                // A client that hangs up is what many of the tests are about.
                thread::spawn(move || shared.serve(socket).ok());
            }
        });
        Self { address, scheme, shared }
    }

    pub fn url(&self) -> String {
        format!("{}://{}", self.scheme, self.address)
    }

    /// Every request so far, in the order in which they came.
    pub fn requests(&self) -> Vec<Request> {
        self.shared.log.lock().unwrap().requests.clone()
    }

    /// The GET requests for one file.
    pub fn gets(&self, file: &str) -> Vec<Request> {
        let mut requests = self.requests();
        requests.retain(|request| request.method == "GET" && request.file() == file);
        requests
    }

    /// Body bytes that the kernel took from this server.
    pub fn sent(&self) -> u64 {
        self.shared.sent.load(Ordering::Relaxed)
    }

    /// Returns once a request for `file` is in.
    pub fn wait_for(&self, file: &str) {
        let start = Instant::now();
        while !self.requests().iter().any(|request| request.file() == file) {
            assert!(start.elapsed() < PATIENCE, "nobody asked for {file}");
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        // Wakes the accepting thread, which then sees `stop`.
        TcpStream::connect(self.address).ok();
    }
}

trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

impl Shared {
    fn serve(&self, socket: TcpStream) -> io::Result<()> {
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.set_write_timeout(Some(PATIENCE))?;
        let wire = socket.try_clone()?;
        let mut stream: Box<dyn Stream> = match &self.tls {
            Some(config) => {
                let session = ServerConnection::new(Arc::clone(config)).map_err(io::Error::other)?;
                Box::new(StreamOwned::new(session, socket))
            }
            None => Box::new(socket),
        };
        let request = read_request(&mut stream)?;
        let earlier = self.note(&request);
        let reply = (self.answer)(&request, earlier);
        self.send(&reply, &request, &mut stream, &wire)
    }

    fn note(&self, request: &Request) -> usize {
        let mut log = self.log.lock().unwrap();
        log.requests.push(request.clone());
        let seen = log.seen.entry((request.method.clone(), request.target.clone())).or_default();
        *seen += 1;
        *seen - 1
    }

    fn send(
        &self,
        reply: &Reply,
        request: &Request,
        stream: &mut dyn Stream,
        wire: &TcpStream,
    ) -> io::Result<()> {
        if reply.is_faulty() {
            tally("http", 1);
        }
        // The request's last byte stays unread: Linux resets a connection that is closed with unread bytes.
        if !matches!(reply.ending, Ending::Reset(_)) {
            stream.read_exact(&mut [0])?;
        }
        stream.write_all(head_of(reply).as_bytes())?;
        stream.flush()?;
        if request.method == "HEAD" {
            return Ok(());
        }
        let body = &reply.body;
        match reply.ending {
            Ending::Whole => self.write(stream, reply, body)?,
            Ending::Cut(bytes) => return self.write(stream, reply, &body[..bytes]),
            Ending::Reset(bytes) => {
                self.write(stream, reply, &body[..bytes])?;
                // The peer reads what came before the reset.
                thread::sleep(Duration::from_millis(50));
                return Ok(());
            }
            Ending::Stall(bytes) => {
                self.write(stream, reply, &body[..bytes])?;
                return self.hold(wire);
            }
            Ending::Drip { piece, every } => {
                let start = Instant::now();
                for part in body.chunks(piece).take_while(|_| start.elapsed() < PATIENCE && !self.stopped()) {
                    self.write(stream, reply, part)?;
                    thread::sleep(every);
                }
            }
            Ending::Endless => {
                self.write(stream, reply, body)?;
                for _ in 0..1024 {
                    self.write(stream, reply, &[0; 64 << 10])?;
                }
            }
            Ending::Tunnel(server) => return join(wire, server),
        }
        if matches!(reply.framing, Framing::Chunked) {
            stream.write_all(b"0\r\n\r\n")?;
        }
        stream.flush()
    }

    fn write(&self, stream: &mut dyn Stream, reply: &Reply, bytes: &[u8]) -> io::Result<()> {
        let chunked = matches!(reply.framing, Framing::Chunked) && !bytes.is_empty();
        if chunked {
            write!(stream, "{:x}\r\n", bytes.len())?;
        }
        stream.write_all(bytes)?;
        if chunked {
            stream.write_all(b"\r\n")?;
        }
        self.sent.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        stream.flush()
    }

    /// Keeps the connection open until the client leaves or the server is dropped.
    fn hold(&self, wire: &TcpStream) -> io::Result<()> {
        wire.set_read_timeout(Some(Duration::from_millis(50)))?;
        let start = Instant::now();
        while start.elapsed() < PATIENCE && !self.stopped() {
            match (&mut &*wire).read(&mut [0; 256]) {
                Ok(0) => return Ok(()),
                Err(error)
                    if !matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) =>
                {
                    return Ok(());
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

/// Reads up to the last byte of the head, and leaves that one.
fn read_request(stream: &mut dyn Stream) -> io::Result<Request> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
        if head.len() > 64 << 10 {
            return Err(io::ErrorKind::InvalidData.into());
        }
    }
    let head = String::from_utf8_lossy(&head);
    let mut lines = head.trim_end().lines();
    let mut first = lines.next().unwrap_or_default().split(' ').map(str::to_owned);
    let (method, target) = (first.next().unwrap_or_default(), first.next().unwrap_or_default());
    let fields = lines.filter_map(|line| line.split_once(':'));
    let headers = fields.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect();
    Ok(Request { method, target, at: Instant::now(), headers })
}

fn head_of(reply: &Reply) -> String {
    let mut head = format!("HTTP/1.1 {} Reply\r\n", reply.status);
    match reply.framing {
        Framing::Length(length) => head += &format!("Content-Length: {length}\r\n"),
        Framing::Chunked => head += "Transfer-Encoding: chunked\r\n",
        Framing::UntilClose => {}
    }
    for (name, value) in &reply.headers {
        head += &format!("{name}: {value}\r\n");
    }
    if !matches!(reply.ending, Ending::Tunnel(_)) {
        head += "Connection: close\r\n";
    }
    head + "\r\n"
}

fn join(client: &TcpStream, server: SocketAddr) -> io::Result<()> {
    let server = TcpStream::connect(server)?;
    let (mut upstream, mut requests) = (server.try_clone()?, client.try_clone()?);
    thread::spawn(move || {
        io::copy(&mut requests, &mut upstream).ok();
        upstream.shutdown(std::net::Shutdown::Write)
    });
    io::copy(&mut &server, &mut &*client)?;
    client.shutdown(std::net::Shutdown::Write)
}

/// A certificate for some names, signed by a private authority that no system trusts.
pub struct Identity {
    /// The authority's certificate: what belongs into `--ca-file`.
    pub authority: String,
    config: Arc<ServerConfig>,
}

pub fn identity(names: &[&str]) -> Identity {
    let mut ca = CertificateParams::default();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    ca.distinguished_name.push(DnType::CommonName, "nodebake test authority");
    let ca_key = KeyPair::generate().unwrap();
    let authority = ca.self_signed(&ca_key).unwrap().pem();
    let issuer = Issuer::new(ca, ca_key);

    let key = KeyPair::generate().unwrap();
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let leaf = CertificateParams::new(names).unwrap().signed_by(&key, &issuer).unwrap();
    let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder =
        ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = builder.with_no_client_auth().with_single_cert(vec![leaf.der().clone()], private).unwrap();
    Identity { authority, config: Arc::new(config) }
}
