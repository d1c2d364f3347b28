//! HTTP/1.1 (RFC 9112) as far as a fake needs it: one request in, one answer out, byte for byte under our hand.

use std::io::{self, BufRead, BufReader, Read, Write};

use percent_encoding::percent_decode_str;
use serde::Serialize;
use serde_json::Value;

use crate::error::ApiError;

/// Nobody sends a calendar event of more than this.
const MAX_BODY: usize = 16 << 20;
const MAX_HEAD: usize = 64 << 10;

#[derive(Clone, Debug, Default)]
pub struct Request {
    pub method: String,
    /// Path and query as sent.
    pub target: String,
    /// The path's segments, percent-decoded one by one, so that an id may hold a slash.
    pub segments: Vec<String>,
    pub query: Vec<(String, String)>,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub keep_alive: bool,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    pub fn param(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    pub fn params<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.query.iter().filter(move |(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    /// The body as a JSON object; an absent body counts as `{}`.
    pub fn json(&self) -> Result<Value, ApiError> {
        if self.body.iter().all(u8::is_ascii_whitespace) {
            return Ok(Value::Object(Default::default()));
        }
        serde_json::from_slice(&self.body)
            .map_err(|_| ApiError::new(400, "parseError", "This API does not support parsing the given input."))
    }
}

#[derive(Clone, Debug)]
pub struct Response {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Response {
    pub fn new(status: u16, content_type: &str, body: impl Into<Vec<u8>>) -> Self {
        Self { status, headers: vec![("Content-Type".into(), content_type.into())], body: body.into() }
    }

    pub fn empty(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Vec::new() }
    }

    /// Indented by one blank, as Google's `prettyPrint=true` is.
    pub fn json(status: u16, value: &Value) -> Self {
        let mut body = Vec::new();
        let indent = serde_json::ser::PrettyFormatter::with_indent(b" ");
        let mut out = serde_json::Serializer::with_formatter(&mut body, indent);
        // Writing a Value into memory cannot fail; were it to, the client would see an empty body.
        let _ = value.serialize(&mut out);
        body.push(b'\n');
        Self::new(status, "application/json; charset=UTF-8", body)
    }

    pub fn compact(status: u16, value: &Value) -> Self {
        Self::new(status, "application/json; charset=UTF-8", value.to_string())
    }

    pub fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Head and body as they go over the wire, and where the body begins.
    pub fn wire(&self, keep_alive: bool) -> (Vec<u8>, usize) {
        let mut out = format!("HTTP/1.1 {} {}\r\n", self.status, reason_phrase(self.status)).into_bytes();
        for (name, value) in &self.headers {
            let clean: String = value.chars().filter(|c| !matches!(c, '\r' | '\n')).collect();
            out.extend_from_slice(format!("{name}: {clean}\r\n").as_bytes());
        }
        if self.status != 204 && self.status != 304 {
            out.extend_from_slice(format!("Content-Length: {}\r\n", self.body.len()).as_bytes());
        }
        out.extend_from_slice(if keep_alive {
            b"Connection: keep-alive\r\n\r\n"
        } else {
            b"Connection: close\r\n\r\n"
        });
        let head = out.len();
        out.extend_from_slice(&self.body);
        (out, head)
    }
}

impl From<ApiError> for Response {
    fn from(error: ApiError) -> Self {
        let answer = Response::json(error.code, &error.body());
        match error.code {
            401 => answer
                .with("WWW-Authenticate", "Bearer realm=\"https://accounts.google.com/\", error=\"invalid_token\""),
            _ => answer,
        }
    }
}

/// Reads one request; `None` when the client closed the connection between two of them.
pub fn read_request(input: &mut BufReader<impl Read + Write>) -> io::Result<Option<Request>> {
    let Some(head) = read_head(input)? else { return Ok(None) };
    let mut slots = [httparse::EMPTY_HEADER; 100];
    let mut parsed = httparse::Request::new(&mut slots);
    parsed.parse(&head).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))?;

    let mut request = Request {
        method: parsed.method.unwrap_or_default().to_ascii_uppercase(),
        target: parsed.path.unwrap_or_default().to_owned(),
        ..Request::default()
    };
    for header in parsed.headers.iter() {
        request
            .headers
            .push((header.name.to_ascii_lowercase(), String::from_utf8_lossy(header.value).trim().to_owned()));
    }
    request.keep_alive = match request.header("connection") {
        Some(word) if word.eq_ignore_ascii_case("close") => false,
        Some(word) if word.eq_ignore_ascii_case("keep-alive") => true,
        _ => parsed.version == Some(1),
    };
    if request.header("expect").is_some_and(|e| e.eq_ignore_ascii_case("100-continue")) {
        write_all(input.get_mut(), b"HTTP/1.1 100 Continue\r\n\r\n")?;
    }
    request.body = read_body(input, &request)?;
    decode_target(&mut request);
    apply_method_override(&mut request);
    Ok(Some(request))
}

fn read_head(input: &mut impl BufRead) -> io::Result<Option<Vec<u8>>> {
    let mut head = Vec::new();
    loop {
        let before = head.len();
        if (&mut *input).take(MAX_HEAD as u64).read_until(b'\n', &mut head)? == 0 {
            return if head.is_empty() { Ok(None) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
        }
        let line = &head[before..];
        if line == b"\r\n" || line == b"\n" {
            if before == 0 {
                head.clear(); // A stray empty line before the request line is to be skipped (RFC 9112, 2.2).
                continue;
            }
            return Ok(Some(head));
        }
        if head.len() > MAX_HEAD {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the head is too long"));
        }
    }
}

fn read_body(input: &mut impl BufRead, request: &Request) -> io::Result<Vec<u8>> {
    let too_long = || io::Error::new(io::ErrorKind::InvalidData, "the body is too long or has no length");
    if request.header("transfer-encoding").is_some_and(|t| t.eq_ignore_ascii_case("chunked")) {
        return read_chunks(input);
    }
    let length: usize = match request.header("content-length") {
        None => 0,
        Some(text) => text.parse().map_err(|_| too_long())?,
    };
    if length > MAX_BODY {
        return Err(too_long());
    }
    let mut body = vec![0; length];
    input.read_exact(&mut body)?;
    Ok(body)
}

/// RFC 9112, 7.1; extensions and trailers are read and forgotten.
fn read_chunks(input: &mut impl BufRead) -> io::Result<Vec<u8>> {
    let broken = || io::Error::new(io::ErrorKind::InvalidData, "a broken chunk");
    let mut body = Vec::new();
    loop {
        let mut line = String::new();
        (&mut *input).take(1024).read_line(&mut line)?;
        let size = line.split(';').next().unwrap_or_default().trim();
        let size = usize::from_str_radix(size, 16).map_err(|_| broken())?;
        if body.len().saturating_add(size) > MAX_BODY {
            return Err(broken());
        }
        if size == 0 {
            loop {
                let mut trailer = String::new();
                if (&mut *input).take(1024).read_line(&mut trailer)? == 0 || trailer.trim().is_empty() {
                    return Ok(body);
                }
            }
        }
        let start = body.len();
        body.resize(start + size, 0);
        input.read_exact(&mut body[start..])?;
        let mut end = [0; 2];
        input.read_exact(&mut end)?;
    }
}

fn decode_target(request: &mut Request) {
    let (path, query) = request.target.split_once('?').unwrap_or((&request.target, ""));
    // Proxies and some clients send the absolute form (RFC 9112, 3.2.2).
    let path = match path.split_once("://") {
        Some((_, rest)) => rest.split_once('/').map_or("", |(_, p)| p),
        None => path,
    };
    request.segments = path
        .split('/')
        .filter(|s| !s.is_empty())
        .map(|s| percent_decode_str(s).decode_utf8_lossy().into_owned())
        .collect();
    request.query = form_urlencoded::parse(query.as_bytes()).into_owned().collect();
}

/// Google's clients send a GET whose address grew too long as a POST with the query in the body.
fn apply_method_override(request: &mut Request) {
    let Some(method) = request.header("x-http-method-override").map(str::to_ascii_uppercase) else { return };
    if request.method == "POST" {
        if method == "GET" {
            request.query.extend(form_urlencoded::parse(&request.body).into_owned());
            request.body.clear();
        }
        request.method = method;
    }
}

pub fn write_all(out: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
    out.write_all(bytes)?;
    out.flush()
}

fn reason_phrase(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        204 => "No Content",
        301 => "Moved Permanently",
        302 => "Found",
        304 => "Not Modified",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        409 => "Conflict",
        410 => "Gone",
        412 => "Precondition Failed",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        _ => "Status",
    }
}
