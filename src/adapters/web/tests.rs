use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use reqwest::Method;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::*;
use crate::ports::BoxFuture;

/// Names with the addresses of each time they are asked for; the last one stands for all later times.
#[derive(Default)]
pub(crate) struct Names {
    known: BTreeMap<String, Vec<Vec<IpAddr>>>,
    pub(crate) asked: Mutex<Vec<String>>,
}

impl Names {
    pub(crate) fn of(known: &[(&str, &[&str])]) -> Names {
        let addresses = |text: &&str| text.split(' ').map(|one| one.parse().unwrap()).collect();
        let known = known.iter().map(|(name, times)| ((*name).to_owned(), times.iter().map(addresses).collect()));
        Names { known: known.collect(), asked: Mutex::default() }
    }
}

impl Resolve for Names {
    fn resolve<'a>(&'a self, host: &'a str) -> BoxFuture<'a, std::io::Result<Vec<IpAddr>>> {
        let before = {
            let mut asked = self.asked.lock().unwrap();
            asked.push(host.to_owned());
            asked.iter().filter(|one| *one == host).count() - 1
        };
        let times = self.known.get(host.trim_end_matches('.'));
        let found = times.map(|times| times[before.min(times.len() - 1)].clone());
        Box::pin(std::future::ready(found.ok_or_else(|| std::io::Error::other("no such name"))))
    }
}

/// A server that says the same to everybody, and counts who comes.
pub(crate) struct Canary {
    pub(crate) at: SocketAddr,
    pub(crate) came: Arc<AtomicUsize>,
    pub(crate) heard: Arc<Mutex<Vec<String>>>,
    server: JoinHandle<()>,
}

impl Canary {
    pub(crate) async fn start(at: &str, says: impl Fn(u16) -> String) -> Canary {
        let listener = TcpListener::bind(at).await.unwrap();
        let at = listener.local_addr().unwrap();
        let answer = says(at.port());
        let (came, heard) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(Vec::new())));
        let (count, words) = (came.clone(), heard.clone());
        let server = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                let mut all = vec![0; 8192];
                let mut read = 0;
                while !all[..read].windows(4).any(|end| end == b"\r\n\r\n") {
                    match stream.read(&mut all[read..]).await {
                        Ok(more) if more > 0 => read += more,
                        _ => break,
                    }
                }
                words.lock().unwrap().push(String::from_utf8_lossy(&all[..read]).into_owned());
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        Canary { at, came, heard, server }
    }
    pub(crate) fn connections(&self) -> usize {
        self.came.load(Ordering::SeqCst)
    }
}

impl Drop for Canary {
    fn drop(&mut self) {
        self.server.abort();
    }
}

pub(crate) fn page(kind: &str, text: &str) -> String {
    format!(
        "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{text}",
        text.len()
    )
}

fn sent_on(to: &str) -> String {
    format!("HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
}

/// As the real filter, but for 127.0.0.2 and up: those stand for the public web.
fn mostly(address: IpAddr) -> Option<&'static str> {
    let public = |v4: Ipv4Addr| v4.octets()[..3] == [127, 0, 0] && v4.octets()[3] > 1;
    if let IpAddr::V4(v4) = address
        && public(v4)
    {
        return None;
    }
    inside(address)
}

fn ask<'a>(url: &str, listed: &'a Listed, own: bool) -> Ask<'a> {
    let (url, time) = (Url::parse(url).unwrap(), Duration::from_secs(20));
    Ask { method: Method::GET, url, headers: HeaderMap::new(), body: None, listed, own, most: 1 << 20, time }
}

/// 80 addresses that lead inside, in every spelling. `P` is the canary's port, which nothing but the
/// address stands in the way of.
const INSIDE: [&str; 80] = [
    // IPv4 in every notation that a parser takes
    "http://127.0.0.1:P/",
    "http://127.1:P/",
    "http://127.0.1:P/",
    "http://2130706433:P/",
    "http://0x7f000001:P/",
    "http://0x7F.0x0.0x0.0x1:P/",
    "http://017700000001:P/",
    "http://0177.0.0.1:P/",
    "http://0177.0000.0.01:P/",
    "http://127.0.0.1.:P/",
    "http://0x7f.1:P/",
    "http://127.0x1:P/",
    "http://127.000000.00.0001:P/",
    "http://127.127.127.127:P/",
    "http://127.255.255.254:P/",
    "http://%31%32%37.0.0.1:P/",
    "http://0:P/",
    "http://0.0.0.0:P/",
    "http://0x0:P/",
    "http://00000000:P/",
    "http://0.1.2.3:P/",
    // dots and digits of other alphabets
    "http://127。0。0。1:P/",
    "http://127．0．0．1:P/",
    "http://127｡0｡0｡1:P/",
    "http://１２７.0.0.1:P/",
    "http://①②⑦.⓪.⓪.①:P/",
    "http://１２７。０。０。１:P/",
    "http://𝟏𝟐𝟕.𝟎.𝟎.𝟏:P/",
    // IPv6
    "http://[::1]:P/",
    "http://[0:0:0:0:0:0:0:1]:P/",
    "http://[0000::0001]:P/",
    "http://[::]:P/",
    "http://[::ffff:127.0.0.1]:P/",
    "http://[::ffff:7f00:1]:P/",
    "http://[0:0:0:0:0:ffff:127.0.0.1]:P/",
    "http://[::127.0.0.1]:P/",
    "http://[64:ff9b::127.0.0.1]:P/",
    "http://[64:ff9b::7f00:1]:P/",
    "http://[64:ff9b:1::7f00:1]:P/",
    "http://[2002:7f00:1::]:P/",
    "http://[2002:7f00:1::1]:P/",
    "http://[2001:0:7f00:1::]:P/",
    "http://[fe80::1]:P/",
    "http://[fc00::1]:P/",
    "http://[fd00:ec2::254]:P/",
    "http://[fec0::1]:P/",
    "http://[ff02::1]:P/",
    "http://[100::1]:P/",
    "http://[2001:db8::1]:P/",
    // names that lead inside
    "http://localhost:P/",
    "http://localhost.:P/",
    "http://LOCALHOST:P/",
    "http://LocalHost.:P/",
    "http://ｌｏｃａｌｈｏｓｔ:P/",
    "http://l%6Fcalhost:P/",
    "http://loc\u{ad}alhost:P/",
    "http://me.localhost:P/",
    "http://inside.example:P/",
    "http://both.example:P/",
    "http://mapped.example:P/",
    "http://six.example:P/",
    "http://metadata.google.internal:P/",
    // user names and passwords that look like hosts, and what parsers disagree on
    "http://example.com@127.0.0.1:P/",
    "http://example.com:80@127.0.0.1:P/",
    "http://example.com%40@127.0.0.1:P/",
    "http://127.0.0.1:P\\@example.com/",
    "http:\\\\127.0.0.1:P\\",
    "http:127.0.0.1:P/",
    "http:///127.0.0.1:P/",
    "http://127.0.0.1:P#@example.com/",
    "http://127.0.0.1:P?@example.com/",
    // private, shared, metadata, multicast, broadcast
    "http://10.0.0.1:P/",
    "http://172.16.0.1:P/",
    "http://192.168.1.1:P/",
    "http://100.64.0.1:P/",
    "http://169.254.169.254:P/latest/meta-data/",
    "http://224.0.0.1:P/",
    "http://255.255.255.255:P/",
    "http://240.0.0.1:P/",
    "http://168.63.129.16:P/",
];

fn inside_names() -> Names {
    Names::of(&[
        ("localhost", &["127.0.0.1 ::1"]),
        ("me.localhost", &["127.0.0.1"]),
        ("inside.example", &["10.1.2.3"]),
        ("both.example", &["8.8.8.8 127.0.0.1"]),
        ("mapped.example", &["::ffff:127.0.0.1"]),
        ("six.example", &["2606:4700::1111 ::1"]),
        ("metadata.google.internal", &["169.254.169.254"]),
    ])
}

#[tokio::test]
async fn eighty_ways_inside_and_none_leads_there() {
    let canary = Canary::start("127.0.0.1:0", |_| page("text/plain", "secret")).await;
    let six = Canary::start("[::1]:0", |_| page("text/plain", "secret")).await;
    let web = Web::new(Arc::new(inside_names()), inside);
    let listed = Listed::default();
    for port in [canary.at.port(), six.at.port()] {
        for text in INSIDE {
            // `own`: any port will do, so that nothing but the address is in the way.
            let blocked = web.send(ask(&text.replace('P', &port.to_string()), &listed, true)).await.unwrap_err();
            assert!(matches!(&blocked, Trouble::Blocked(_)), "{text}: {blocked:?}");
        }
    }
    assert_eq!((canary.connections(), six.connections()), (0, 0));
}

#[tokio::test]
async fn a_redirect_leads_inside_no_more_than_an_address_does() {
    let canary = Canary::start("127.0.0.1:0", |_| page("text/plain", "secret")).await;
    let names = Arc::new(inside_names());
    let web = Web::new(names, mostly);
    for text in INSIDE {
        // What stands for the public web says where to go on to; its own port is another one.
        let to = text.replace('P', &canary.at.port().to_string());
        // In a header other letters than ASCII are sent as they are.
        let open = Canary::start("127.0.0.2:0", |_| sent_on(&to)).await;
        let listed =
            Listed::parse(&[format!("127.0.0.1:{}", open.at.port()), format!("example.com:{}", canary.at.port())])
                .unwrap();
        let blocked = web.send(ask(&format!("http://{}/", open.at), &listed, true)).await;
        assert!(matches!(&blocked, Err(Trouble::Blocked(_))), "{text}: {blocked:?}");
        assert!(open.connections() > 0, "{text}");
    }
    assert_eq!(canary.connections(), 0);
}

#[tokio::test]
async fn a_name_that_changes_its_mind_is_asked_once_and_held_to_it() {
    let canary = Canary::start("127.0.0.1:0", |_| page("text/plain", "secret")).await;
    let port = canary.at.port();
    let open = Canary::start(&format!("127.0.0.2:{port}"), |_| page("text/plain", "hello")).await;
    for round in 0..50 {
        let names = Arc::new(Names::of(&[("turns.example", &["127.0.0.2", "127.0.0.1"])]));
        let web = Web::new(names.clone(), mostly);
        let url = format!("http://turns.example:{port}/{round}");
        let got = web.send(ask(&url, &Listed::default(), true)).await.unwrap();
        assert_eq!(got.body, b"hello");
        assert_eq!(names.asked.lock().unwrap().len(), 1, "resolved once");
        // The next request asks again, and is refused.
        let blocked = web.send(ask(&url, &Listed::default(), true)).await.unwrap_err();
        assert!(blocked.words().contains("turns.example leads to 127.0.0.1, which is loopback"), "{blocked:?}");
    }
    assert_eq!((open.connections(), canary.connections()), (50, 0));
}

#[tokio::test]
async fn a_redirect_to_the_same_name_is_resolved_and_looked_at_again() {
    let canary = Canary::start("127.0.0.1:0", |_| page("text/plain", "secret")).await;
    let port = canary.at.port();
    let open =
        Canary::start(&format!("127.0.0.2:{port}"), |port| sent_on(&format!("http://turns.example:{port}/2"))).await;
    let names = Arc::new(Names::of(&[("turns.example", &["127.0.0.2", "127.0.0.1"])]));
    let web = Web::new(names.clone(), mostly);
    let blocked = web.send(ask(&format!("http://turns.example:{port}/"), &Listed::default(), true)).await.unwrap_err();
    assert!(matches!(blocked, Trouble::Blocked(_)), "{blocked:?}");
    assert_eq!((open.connections(), canary.connections()), (1, 0));
    // Round and round: at most three.
    let names = Arc::new(Names::of(&[("turns.example", &["127.0.0.2"])]));
    let web = Web::new(names, mostly);
    let blocked = web.send(ask(&format!("http://turns.example:{port}/"), &Listed::default(), true)).await.unwrap_err();
    assert!(blocked.words().contains("redirects again, after 3"), "{blocked:?}");
    assert_eq!(open.connections(), 5);
}

#[tokio::test]
async fn a_listed_host_is_reached_on_its_port_alone() {
    let canary = Canary::start("127.0.0.1:0", |_| page("text/plain", "inside")).await;
    let other = Canary::start("127.0.0.1:0", |_| page("text/plain", "secret")).await;
    let web = Web::new(Arc::new(inside_names()), inside);
    let listed = Listed::parse(&[format!("localhost:{}", canary.at.port())]).unwrap();
    let got = web.send(ask(&format!("http://LOCALHOST:{}/", canary.at.port()), &listed, false)).await.unwrap();
    assert_eq!((got.body, got.status, got.cut), (b"inside".to_vec(), 200, false));
    for (port, own) in [(other.at.port(), true), (other.at.port(), false)] {
        let blocked = web.send(ask(&format!("http://localhost:{port}/"), &listed, own)).await.unwrap_err();
        assert!(matches!(blocked, Trouble::Blocked(_)), "{blocked:?}");
    }
    // Its address is another spelling, which nobody listed.
    let blocked = web.send(ask(&format!("http://127.0.0.1:{}/", canary.at.port()), &listed, true)).await.unwrap_err();
    assert!(matches!(blocked, Trouble::Blocked(_)), "{blocked:?}");
    assert_eq!((canary.connections(), other.connections()), (1, 0));
}

#[tokio::test]
async fn only_http_on_the_usual_ports_unless_listed() {
    let web = Web::new(Arc::new(Names::default()), inside);
    let cases = [
        ("ftp://1.1.1.1/", "its scheme is `ftp`"),
        ("file:///etc/passwd", "its scheme is `file`"),
        ("gopher://1.1.1.1/", "its scheme is `gopher`"),
        ("data:text/plain,x", "its scheme is `data`"),
        ("http://1.1.1.1:22/", "port 22 is neither 80 nor 443"),
        ("https://1.1.1.1:8443/", "port 8443 is neither"),
        ("http://me@1.1.1.1/", "a user name or a password"),
        ("http://me:pw@1.1.1.1/", "a user name or a password"),
    ];
    for (url, why) in cases {
        let blocked = web.send(ask(url, &Listed::default(), false)).await.unwrap_err();
        assert!(matches!(blocked, Trouble::Blocked(_)) && blocked.words().contains(why), "{url}: {blocked:?}");
    }
    let gone = web.send(ask("http://nobody.example/", &Listed::default(), false)).await.unwrap_err();
    assert!(matches!(gone, Trouble::NotSent(_)) && gone.words().contains("is not found"), "{gone:?}");
}

#[tokio::test]
async fn headers_stay_with_the_origin_they_were_meant_for() {
    let other = Canary::start("127.0.0.3:0", |_| page("text/plain", "there")).await;
    let to = format!("http://{}/", other.at);
    let open = Canary::start("127.0.0.2:0", |_| sent_on(&to)).await;
    let listed = Listed::parse(&[format!("127.0.0.3:{}", other.at.port())]).unwrap();
    let mut ask = ask(&format!("http://{}/", open.at), &listed, true);
    ask.headers.insert(AUTHORIZATION, HeaderValue::from_static("Bearer hush-hush"));
    ask.headers.insert("accept", HeaderValue::from_static("text/plain"));
    let got = Web::new(Arc::new(Names::default()), mostly).send(ask).await.unwrap();
    assert_eq!((got.body.as_slice(), got.url.as_str()), (&b"there"[..], to.as_str()));
    let (first, second) = (open.heard.lock().unwrap().join(""), other.heard.lock().unwrap().join(""));
    assert!(first.contains("Bearer hush-hush") && first.contains("user-agent: bosun/"), "{first}");
    assert!(!second.contains("hush") && second.contains("accept: text/plain"), "{second}");
    for seen in [first, second] {
        assert!(!seen.to_lowercase().contains("cookie") && !seen.to_lowercase().contains("referer"), "{seen}");
    }
}

#[tokio::test]
async fn a_long_answer_is_cut_and_a_packed_one_refused() {
    let long = Canary::start("127.0.0.2:0", |_| page("text/plain", &"x".repeat(3 << 20))).await;
    let web = Web::new(Arc::new(Names::default()), mostly);
    let listed = Listed::default();
    let got = web.send(ask(&format!("http://{}/", long.at), &listed, true)).await.unwrap();
    assert_eq!((got.body.len(), got.cut), (1 << 20, true));
    let packed = "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\nxx";
    let packed = Canary::start("127.0.0.2:0", |_| packed.to_owned()).await;
    let refused = web.send(ask(&format!("http://{}/", packed.at), &listed, true)).await.unwrap_err();
    assert!(refused.words().contains("packed as `gzip`"), "{refused:?}");
}

#[tokio::test]
async fn a_server_that_says_nothing_takes_no_longer_than_it_may() {
    let listener = TcpListener::bind("127.0.0.2:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    let web = Web::new(Arc::new(Names::default()), mostly);
    let listed = Listed::default();
    let ask = Ask { time: Duration::from_millis(200), ..ask(&format!("http://{at}/"), &listed, true) };
    let lost = web.send(ask).await.unwrap_err();
    assert!(matches!(&lost, Trouble::Lost(words) if words.contains("in time")), "{lost:?}");
}

#[test]
fn a_listed_host_names_its_port() {
    for good in ["a.internal:8080", "10.0.0.7:443", "[fd00::1]:80", "LOCALHOST:1"] {
        assert!(host_port(good).is_ok(), "{good}");
    }
    assert_eq!(host_port("2130706433:80").unwrap().0, "127.0.0.1", "as addresses spell it");
    for bad in ["", "a", "a:", ":80", "a:0", "a:99999", "*.a:80", "a/b:80", "http://a:80", "me@a:80", "a b:80"] {
        assert!(host_port(bad).is_err(), "{bad}");
    }
}
