//! A browser whose person says yes to whatever it shows: it follows redirects on this machine. Invariant: it ends.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// Opens the address and follows where it is sent. The statuses and the addresses, in order.
pub fn open(address: &str) -> Vec<(u16, String)> {
    let mut seen = Vec::new();
    let mut next = Some(address.to_owned());
    while let Some(url) = next.take().filter(|_| seen.len() < 5) {
        let answer = get(&url);
        let status = answer.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
        next = field(&answer, "location");
        seen.push((status, url));
    }
    seen
}

/// The whole answer to a GET, head and body.
pub fn get(url: &str) -> String {
    let rest = url.strip_prefix("http://").unwrap_or_else(|| panic!("{url} is not on this machine"));
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let mut stream = TcpStream::connect(host).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    write!(stream, "GET /{path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

pub fn field(head: &str, name: &str) -> Option<String> {
    let line = head.lines().find(|line| line.to_lowercase().starts_with(&format!("{name}:")))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}
