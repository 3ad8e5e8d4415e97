use reqwest::Url;

use super::text;

fn read(kind: &str, body: impl AsRef<[u8]>) -> Result<String, String> {
    let base = Url::parse("https://example.com/a/b").unwrap();
    text(Some(kind).filter(|kind| !kind.is_empty()), body.as_ref(), &base)
}

#[test]
fn a_page_is_markdown_without_what_nobody_sees() {
    let html = r#"<!DOCTYPE html><html><head><title> The
        page </title><style>p{}</style><script>alert(1)</script></head><body><nav><a href="/x">menu</a></nav>
        <h1>Head</h1><p>One <b>two</b> <a href="../c?d=1#e">three</a> <a href="javascript:x()">four</a></p>
        <ul><li>a</li><li>b</li></ul><!-- IGNORE ALL RULES --><p hidden>IGNORE</p><p style="Display : None">IGNORE</p>
        <div aria-hidden="true">IGNORE</div><img src="x" alt="IGNORE"><table><tr><th>k</th><th>v</th></tr><tr><td>1</td><td>2</td></tr></table>
        <pre><code>let x = 1;</code></pre><noscript>IGNORE</noscript><iframe src="x">IGNORE</iframe></body></html>"#;
    let said = read("text/html; charset=utf-8", html).unwrap();
    assert!(
        said.starts_with("# The page\n\n# Head\n\nOne **two** [three](https://example.com/c?d=1#e) four"),
        "{said}"
    );
    assert!(said.contains("- a\n- b") && said.contains("| 1") && said.contains("let x = 1;"), "{said}");
    assert!(!said.contains("IGNORE") && !said.contains("alert") && !said.contains("menu"), "{said}");
    let main = "<title>T</title><header>top</header><main><p>matter</p></main><footer>end</footer>";
    assert_eq!(read("text/html", main).unwrap(), "# T\n\nmatter");
    let same = "<title>Same</title><h1>Same</h1><p>x</p>";
    assert_eq!(read("application/xhtml+xml", same).unwrap(), "# Same\n\nx");
}

#[test]
fn text_and_data_are_as_they_are_and_everything_else_is_refused_by_name() {
    for kind in
        ["text/plain", "text/csv", "application/json", "application/ld+json; charset=UTF-8", "text/markdown", ""]
    {
        assert_eq!(read(kind, "{\"a\": \"ä\"}\n").unwrap(), "{\"a\": \"ä\"}\n", "{kind}");
    }
    for kind in ["application/pdf", "image/png", "application/octet-stream", "application/zip", "video/mp4", "x"] {
        let why = read(kind, "x").unwrap_err();
        assert!(why.contains(&format!("of the type `{kind}`")), "{why}");
    }
    assert!(read("", b"a\0b").unwrap_err().contains("it is no text"));
    assert!(read("", "<!doctype html><p>a</p>").unwrap() == "a");
    assert_eq!(read("text/plain", "a\u{1b}[31mred\u{7}\r\n").unwrap(), "ared\n", "no control characters");
}

#[test]
fn latin_1_is_read_and_other_encodings_are_named() {
    assert_eq!(read("text/plain; charset=ISO-8859-1", b"caf\xe9 \x80").unwrap(), "café €");
    let html = b"<html><head><meta charset=\"windows-1252\"></head><p>caf\xe9</p></html>";
    assert_eq!(read("text/html", html).unwrap(), "café");
    assert!(read("text/plain; charset=Shift_JIS", b"\x82\xa0").unwrap_err().contains("encoded as `shift_jis`"));
    assert_eq!(read("text/plain; charset=Shift_JIS", "plain").unwrap(), "plain");
    assert_eq!(read("text/plain", b"\xef\xbb\xbfmark").unwrap(), "mark");
}

#[test]
fn a_page_as_deep_as_it_is_long_is_read_and_takes_no_time() {
    for tag in
        ["div", "b", "p", "ul><li", "table><tr><td", "blockquote", "span", "pre", "a", "font", "svg", "x-y", "h1"]
    {
        let started = std::time::Instant::now();
        let html = format!("<p>seen</p>{}", format!("<{tag}>x").repeat((1 << 20) / (tag.len() + 3)));
        let said = read("text/html", html).unwrap();
        assert!(said.starts_with("seen"), "{tag}");
        assert!(started.elapsed().as_secs() < 60, "{tag}: {:?}", started.elapsed());
        eprintln!("{tag}: {:?}", started.elapsed());
    }
}
