//! The client against a server that answers as it is told, byte for byte.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use mynah_contracts::{Cancelled, Diagnosis as _, FaultKind, Monitor, Quiet};

use super::*;
use crate::secret::Secret;

/// A server that gives one of `answers` for each connection, in order, then hangs up; it keeps what it was asked.
struct Scripted {
    url: Url,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Scripted {
    fn new(answers: &[&str]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = Url::parse(&format!("http://{}/path", listener.local_addr().unwrap())).unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let answers: Vec<String> = answers.iter().map(|&answer| answer.to_owned()).collect();
        let seen = Arc::clone(&asked);
        std::thread::spawn(move || {
            for answer in answers {
                let (mut stream, _) = listener.accept().unwrap();
                seen.lock().unwrap().push(read_request(&mut stream));
                if answer == "silence" {
                    std::thread::sleep(Duration::from_secs(20));
                }
                stream.write_all(answer.as_bytes()).unwrap();
            }
        });
        Self { url, asked }
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

/// Head and body, where the head tells the body's length.
fn read_request(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let text = String::from_utf8_lossy(&bytes).to_lowercase();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length: "))
                .map_or(0, |length| length.parse().unwrap());
            if body.len() >= length {
                return String::from_utf8(bytes).unwrap();
            }
        }
        let read = stream.read(&mut buffer).unwrap();
        if read == 0 {
            return String::from_utf8(bytes).unwrap();
        }
        bytes.extend_from_slice(&buffer[..read]);
    }
}

fn answer(status: &str, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n{headers}\r\n{body}", body.len())
}

fn policy() -> Policy {
    Policy { first_wait: Duration::from_millis(1), ..Policy::default() }
}

fn send(policy: Policy, request: &Request) -> Result<Response, HttpError> {
    let client = Client::new(policy).unwrap();
    match block_on::<_, Ended>(&Quiet, async { Ok(client.send(request).await?) }) {
        Ok(response) => Ok(response),
        Err(Ended::Http(error)) => Err(error),
        Err(Ended::Cancelled(_)) => panic!("nobody cancelled"),
    }
}

#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error(transparent)]
    Http(#[from] HttpError),
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
}

#[test]
fn what_may_be_repeated_is_repeated_until_it_works() {
    let cut = "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf";
    let server = Scripted::new(&[
        &answer("503 Busy", "", ""),
        &answer("429 Slow Down", "retry-after-ms: 1\r\n", ""),
        cut,
        "",
        &answer("200 OK", "x-a: b\r\n", r#"{"n":1}"#),
    ]);
    let response = send(policy(), &Request::get(server.url.clone())).unwrap();
    assert_eq!(response.json::<serde_json::Value>().unwrap(), serde_json::json!({"n": 1}));
    assert_eq!(response.header("x-a"), Some("b"));
    assert_eq!(server.asked().len(), 5);
}

#[test]
fn a_post_is_repeated_only_when_it_had_no_effect_or_when_told_so() {
    let busy = answer("503 Busy", "", "");
    let server = Scripted::new(&[&busy]);
    let error = send(policy(), &Request::post(server.url.clone())).unwrap_err();
    assert_eq!(error.status(), Some(503));
    assert_eq!(server.asked().len(), 1);

    let ok = answer("201 Created", "", "");
    let throttled = answer("429 Slow Down", "retry-after: 0\r\n", "");
    let server = Scripted::new(&[&throttled, &ok]);
    let json = serde_json::json!({"a": 1});
    assert_eq!(send(policy(), &Request::post(server.url.clone()).json(&json)).unwrap().status(), 201);
    let server = Scripted::new(&[&busy, "", &ok]);
    let request = Request::post(server.url.clone()).json(&json).repeat(Repeat::Always);
    assert_eq!(send(policy(), &request).unwrap().status(), 201);
    assert!(
        server.asked().iter().all(|asked| asked.ends_with(r#"{"a":1}"#)),
        "the body goes out in each try"
    );
}

#[test]
fn a_refusal_tells_all_but_secrets() {
    let body = r#"{"error":{"code":"AuthenticationFailed","message":"Wrong\nkey."}}"#;
    let server = Scripted::new(&[&answer("403 No", "x-ms-request-id: r-1\r\n", body)]);
    let mut url = server.url.clone();
    url.query_pairs_mut().append_pair("comp", "list").append_pair("sig", "very-secret");
    let request = Request::get(url).bearer(&Secret::new("token-4711"));
    let error = send(policy(), &request).unwrap_err();
    let at = server.url.as_str();
    assert_eq!(
        error.to_string(),
        format!(
            "`GET {at}?comp=list&sig=***` was answered with 403 AuthenticationFailed (Wrong key), request id `r-1`"
        )
    );
    assert_eq!(error.kind(), FaultKind::ServiceRefused);
    assert!(error.hint().unwrap().contains("role"));
    assert!(server.asked()[0].contains("authorization: Bearer token-4711"));
    let shown = format!("{error:?} {request:?}");
    assert!(!shown.contains("very-secret") && !shown.contains("token-4711"), "{shown}");
}

#[test]
fn tries_end_and_are_told() {
    let busy = answer("503 Busy", "", "");
    let server = Scripted::new(&[&busy, &busy, &busy, &busy]);
    let error = send(Policy { tries: 3, ..policy() }, &Request::get(server.url.clone())).unwrap_err();
    assert!(error.to_string().contains("503, 3 times"), "{error}");
    assert_eq!(server.asked().len(), 3);
    let spent =
        send(Policy { budget: 1, ..policy() }, &Request::get(Scripted::new(&[&busy, &busy]).url.clone()));
    assert!(spent.unwrap_err().to_string().contains("503, 2 times"));
}

#[test]
fn a_wait_beyond_the_deadline_is_not_begun() {
    let server = Scripted::new(&[&answer("429 Slow Down", "retry-after: 3600\r\n", "")]);
    let error = send(policy(), &Request::get(server.url.clone())).unwrap_err();
    assert_eq!(error.refusal().unwrap().retry_after, Some(Duration::from_hours(1)));
    let server = Scripted::new(&["silence"]);
    let request = Request::get(server.url.clone()).within(Duration::from_millis(50));
    let error = send(policy(), &request).unwrap_err();
    assert!(matches!(error, HttpError::Deadline { .. }), "{error}");
}

#[test]
fn who_asks_to_stop_is_heard_while_a_service_is_silent() {
    struct Soon(AtomicBool);
    impl Monitor for Soon {
        fn progress(&self, _: &str, _: u64, _: u64) {}
        fn cancelled(&self) -> bool {
            self.0.swap(true, Ordering::Relaxed)
        }
    }
    let server = Scripted::new(&["silence"]);
    let client = Client::new(policy()).unwrap();
    let begun = Instant::now();
    let request = Request::get(server.url.clone());
    let stopped = block_on::<Response, Ended>(&Soon(AtomicBool::new(false)), async {
        Ok(client.send(&request).await?)
    });
    assert!(matches!(stopped, Err(Ended::Cancelled(_))));
    assert!(begun.elapsed() < Duration::from_secs(15), "it did not wait for the service");
}

#[test]
fn bodies_of_every_kind_arrive_in_each_try() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("layer");
    std::fs::write(&file, "0123456789").unwrap();
    let (busy, ok) = (answer("503 Busy", "", ""), answer("200 OK", "", ""));
    let sent = |request: fn(Url) -> Request, body: Option<Body>| {
        let server = Scripted::new(&[&busy, &ok]);
        let mut request = request(server.url.clone()).repeat(Repeat::Always);
        if let Some(body) = body {
            request = request.body("application/octet-stream", body);
        }
        send(policy(), &request).unwrap();
        server.asked()
    };
    let part = Body::File { path: file, offset: 2, length: 5 };
    for asked in sent(Request::put, Some(part)) {
        assert!(asked.contains("content-length: 5\r\n") && asked.ends_with("\r\n23456"), "{asked}");
    }
    for asked in sent(|url| Request::post(url).form(&[("a b", "ü&")]), None) {
        assert!(asked.ends_with("a+b=%C3%BC%26"), "{asked}");
    }
    let photo = |url| {
        let part = Part {
            name: "imageData".into(),
            file_name: Some("a.jpg".into()),
            content_type: "image/jpeg",
            content: b"photo".to_vec(),
        };
        Request::post(url).multipart(vec![part])
    };
    for asked in sent(photo, None) {
        assert!(asked.contains("name=\"imageData\"; filename=\"a.jpg\"") && asked.contains("\r\nphoto\r\n"));
    }
    for asked in sent(Request::post, None) {
        assert!(asked.contains("content-length: 0"), "{asked}");
    }
}

#[test]
fn a_redirection_is_followed_and_another_host_sees_no_secret() {
    let other = Scripted::new(&[&answer("200 OK", "", "blob")]);
    let server = Scripted::new(&[&answer("307 There", &format!("location: {}\r\n", other.url), "")]);
    let request = Request::get(server.url.clone())
        .bearer(&Secret::new("token-0815"))
        .secret_header("training-key", &Secret::new("key-0815"))
        .header("range", "bytes=1-");
    assert_eq!(send(policy(), &request).unwrap().bytes(), b"blob");
    let seen = other.asked().remove(0);
    assert!(seen.contains("range: bytes=1-") && !seen.contains("0815"), "{seen}");

    let again = format!("location: {}\r\n", "/path");
    let turning = answer("302 There", &again, "");
    let server = Scripted::new(&[turning.as_str(); 6]);
    let error = send(policy(), &Request::get(server.url.clone())).unwrap_err();
    assert!(matches!(error, HttpError::Redirection { .. }), "{error}");
    let server = Scripted::new(&[&answer("302 There", "location: http://192.0.2.1/\r\n", "")]);
    let error = send(policy(), &Request::get(server.url.clone())).unwrap_err();
    assert!(matches!(error, HttpError::Plain { .. }), "{error}");
}

#[test]
fn what_cannot_be_sent_is_told_before_anything_is_sent() {
    let far = Url::parse("http://192.0.2.1/").unwrap();
    assert_eq!(send(policy(), &Request::get(far)).unwrap_err().kind(), FaultKind::BadInput);
    let near = Url::parse("http://127.0.0.1:9/").unwrap();
    let broken = Request::get(near).secret_header("training-key", &Secret::new("key-1234\nrest-1234"));
    let error = send(policy(), &broken).unwrap_err();
    assert!(error.to_string().contains("`GET http://127.0.0.1:9/`: its training-key holds"), "{error}");
    assert!(!error.to_string().contains("1234"));
}

#[test]
fn nobody_there_and_too_much_are_told() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = Url::parse(&format!("http://{closed}/?sig=secret-signature")).unwrap();
    let error = send(Policy { tries: 2, ..policy() }, &Request::get(url)).unwrap_err();
    let text = mynah_contracts::error_chain(&error);
    assert!(
        text.contains("cannot reach") && text.contains("refused") && !text.contains("secret-sig"),
        "{text}"
    );
    let server = Scripted::new(&[&answer("200 OK", "", &"x".repeat(100))]);
    let error = send(Policy { largest_body: 99, ..policy() }, &Request::get(server.url.clone())).unwrap_err();
    assert!(matches!(error, HttpError::TooLarge { limit: 99, .. }));
}

#[test]
fn a_body_is_saved_up_to_a_limit() {
    let save = |limit| {
        let server = Scripted::new(&[&answer("200 OK", "", "0123456789")]);
        let client = Client::new(policy()).unwrap();
        let mut into = Vec::new();
        let saved = block_on::<_, Ended>(&Quiet, async {
            Ok(client.open(&Request::get(server.url.clone())).await?.save(&mut into, limit).await?)
        });
        (saved, into)
    };
    let (saved, into) = save(10);
    assert_eq!((saved.unwrap(), into.as_slice()), (10, b"0123456789".as_slice()));
    assert!(matches!(save(9).0, Err(Ended::Http(HttpError::TooLarge { .. }))));
}
