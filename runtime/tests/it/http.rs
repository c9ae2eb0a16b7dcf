//! The server, asked as its clients ask it: browsers, probes, collectors, camera modules made for other containers.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Stdio};
use std::time::Duration;

use mynah_testkit::{BLUE, GREY, RED, solid_colour_jpeg};

use crate::scene::Scene;

/// A device that looks at one picture for ten minutes and serves on a port of the system's choice.
struct Device {
    child: Child,
    address: String,
}

impl Device {
    fn start(scene: &Scene, changes: &[(&str, &str)]) -> Self {
        let mut settings = vec![("source", "dir:frames?hold=1000&fps=5"), ("votes", "1"), ("http", "0")];
        settings.retain(|(name, _)| !changes.iter().any(|(changed, _)| changed == name));
        settings.extend(changes);
        let mut child =
            scene.runtime(&settings).stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let mut said = String::new();
        let address = loop {
            let mut line = String::new();
            assert!(log.read_line(&mut line).unwrap() > 0, "no address in:\n{said}");
            if let Some(rest) = line.split_once("the live page is http://") {
                break rest.1.trim().trim_end_matches('/').to_owned();
            }
            said.push_str(&line);
        };
        // Whatever else it says must not fill the pipe.
        std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
        let device = Self { child, address };
        while device.get("/readyz").0 != 200 {
            std::thread::sleep(Duration::from_millis(20));
        }
        device
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        stream
    }

    /// Sends a request as it is and gives status and body.
    fn send(&self, request: &[u8]) -> (u16, String) {
        let mut stream = self.connect();
        // A server that has refused need not read on.
        let _ = stream.write_all(request);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
        (status, answer.split_once("\r\n\r\n").map_or("", |(_, body)| body).to_owned())
    }

    fn get(&self, path: &str) -> (u16, String) {
        self.get_with(path, "")
    }

    fn get_with(&self, path: &str, headers: &str) -> (u16, String) {
        let address = &self.address;
        self.send(
            format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n{headers}\r\n")
                .as_bytes(),
        )
    }

    fn post(&self, path: &str, kind: &str, body: &[u8]) -> (u16, serde_json::Value) {
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: image-classifier-service\r\nConnection: close\r\nContent-Type: {kind}\r\n\
             Content-Length: {}\r\n\r\n",
            body.len()
        );
        let (status, body) = self.send(&[head.as_bytes(), body].concat());
        (status, serde_json::from_str(&body).unwrap_or_else(|error| panic!("{error}: {body}")))
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn best(answer: &serde_json::Value) -> &str {
    let predictions = answer["predictions"].as_array().unwrap();
    let key = |prediction: &&serde_json::Value| (prediction["probability"].as_f64().unwrap() * 1e8) as u64;
    predictions.iter().max_by_key(key).unwrap()["tagName"].as_str().unwrap()
}

const OCTETS: &str = "application/octet-stream";

#[test]
fn a_client_of_the_custom_vision_container_is_answered() {
    let scene = Scene::new(&[("1.jpg", GREY)]);
    let device = Device::start(&scene, &[]);
    let (red, blue) = (solid_colour_jpeg(RED, 1), solid_colour_jpeg(BLUE, 2));
    for path in [
        "/image",
        "/any/image",
        "/any/image/nostore",
        "/any/classify/iterations/Iteration1/image",
        "/any/classify/iterations/Iteration1/image/nostore",
        "/any/detect/iterations/x/image",
    ] {
        let (status, answer) = device.post(path, OCTETS, &red);
        assert_eq!((status, best(&answer)), (200, "red"), "{path}");
    }
    let (_, answer) = device.post("/image", OCTETS, &blue);
    assert_eq!(
        (&answer["id"], &answer["project"], &answer["iteration"]),
        (&"".into(), &"".into(), &"".into())
    );
    let prediction = &answer["predictions"][0];
    assert_eq!((&prediction["tagId"], &prediction["boundingBox"]), (&"".into(), &serde_json::Value::Null));
    assert!(!answer["created"].as_str().unwrap().ends_with('Z'));

    let form = |name: &str| {
        let head =
            format!("--b\r\nContent-Disposition: form-data; name=\"{name}\"; filename=\"a.jpg\"\r\n\r\n");
        [head.as_bytes(), &blue, b"\r\n--b--\r\n"].concat()
    };
    let kind = "multipart/form-data; boundary=b";
    let (status, answer) = device.post("/image", kind, &form("imageData"));
    assert_eq!((status, best(&answer)), (200, "blue"));
    assert_eq!(device.post("/image", kind, &form("other")).0, 400);
    assert_eq!(device.post("/image", kind, b"--b\r\nnonsense").0, 400);
}

#[test]
fn errors_are_errors() {
    let scene = Scene::new(&[("1.jpg", GREY)]);
    let device = Device::start(&scene, &[]);
    let refused = |path: &str, body: &[u8]| {
        let (status, answer) = device.post(path, OCTETS, body);
        (status, answer["code"].as_str().unwrap().to_owned())
    };
    assert_eq!(refused("/image", b""), (400, "BadRequestImage".into()));
    assert_eq!(refused("/image", b"no picture"), (422, "BadRequestImageFormat".into()));
    assert_eq!(refused("/image", &vec![0; (4 << 20) + 1]), (413, "BadRequestImageSizeBytes".into()));
    assert_eq!(refused("/url", b"{}"), (400, "BadRequest".into()));
    assert_eq!(refused("/url", br#"{"url": "file:///etc/passwd"}"#), (400, "BadRequestImageUrl".into()));
    let own = format!(r#"{{"Url": "http://{}/snapshot.jpg"}}"#, device.address);
    assert_eq!(refused("/any/url", own.as_bytes()), (403, "BadRequestImageUrl".into()));
    assert_eq!(device.get("/nothing").0, 404);
    // It is none the worse for all that.
    assert_eq!(device.post("/image", OCTETS, &solid_colour_jpeg(RED, 1)).0, 200);
}

#[test]
fn pictures_are_fetched_where_that_is_allowed() {
    let scene = Scene::new(&[("1.jpg", RED)]);
    let device = Device::start(&scene, &[("url-fetch", "any")]);
    let own = format!(r#"{{"url": "http://{}/snapshot.jpg"}}"#, device.address);
    let (status, answer) = device.post("/url", "application/json", own.as_bytes());
    assert_eq!((status, best(&answer)), (200, "red"));
}

#[test]
fn the_page_its_pictures_and_its_events_are_there() {
    let scene = Scene::new(&[("1.jpg", RED)]);
    let device = Device::start(&scene, &[]);
    let (status, page) = device.get("/");
    assert!(status == 200 && page.contains("<title>Mynah</title>"), "{page}");
    assert!(!page.contains("http://") && !page.contains("https://"), "works offline");
    for path in ["/page.js", "/page.css", "/model", "/snapshot.jpg"] {
        assert_eq!(device.get(path).0, 200, "{path}");
    }
    let head = format!("GET /stream HTTP/1.1\r\nHost: {}\r\n\r\n", device.address);
    let mut stream = device.connect();
    stream.write_all(head.as_bytes()).unwrap();
    let mut bytes = Vec::new();
    let mut piece = [0; 4096];
    while bytes.windows(2).filter(|pair| *pair == [0xFF, 0xD8]).count() < 2 {
        let length = stream.read(&mut piece).unwrap();
        assert!(length > 0);
        bytes.extend_from_slice(&piece[..length]);
    }
    assert!(String::from_utf8_lossy(&bytes).contains("multipart/x-mixed-replace; boundary=mynah-frame"));

    let mut events = device.connect();
    events.write_all(head.replace("/stream", "/events").as_bytes()).unwrap();
    let data = BufReader::new(events)
        .lines()
        .map(Result::unwrap)
        .find_map(|line| line.strip_prefix("data: ").map(str::to_owned))
        .unwrap();
    let view: serde_json::Value = serde_json::from_str(&data).unwrap();
    assert_eq!(view["status"]["state"], "running");
    assert_eq!(view["sighting"]["best"], "red");
    assert_eq!(view["words"][0]["text"], "red");
    assert_eq!(view["probabilities"].as_array().unwrap().len(), 3);
}

#[test]
fn figures_are_in_the_form_collectors_read() {
    let scene = Scene::new(&[("1.jpg", RED)]);
    let device = Device::start(&scene, &[]);
    let (status, text) = device.get("/metrics");
    assert_eq!(status, 200);
    assert_eq!(device.get("/healthz"), (200, "ok\n".into()));
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (name, value) = line.rsplit_once(' ').unwrap();
        assert!(value.parse::<f64>().unwrap().is_finite(), "{line}");
        let plain = name.split('{').next().unwrap();
        assert!(plain.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{line}");
    }
    for line in ["mynah_camera_up 1", "mynah_utterances_total 1", "mynah_speaker_up 1"] {
        assert!(text.lines().any(|given| given == line), "{line} is missing in\n{text}");
    }
    assert!(text.contains("mynah_inference_duration_seconds_bucket{le=\"+Inf\"} 1"), "{text}");
}

#[test]
fn a_token_guards_everything_but_health() {
    let scene = Scene::new(&[("1.jpg", RED)]);
    let token = "0123456789abcdef";
    std::fs::write(scene.path("token"), format!("{token}\n")).unwrap();
    let device = Device::start(&scene, &[("http-token-file", "token")]);
    for path in ["/", "/snapshot.jpg", "/metrics"] {
        assert_eq!(device.get(path).0, 401, "{path}");
        assert_eq!(device.get_with(path, "Authorization: Bearer wrong\r\n").0, 401, "{path}");
        assert_eq!(device.get_with(path, &format!("Authorization: Bearer {token}\r\n")).0, 200, "{path}");
        assert_eq!(device.get_with(path, &format!("Cookie: mynah_token={token}\r\n")).0, 200, "{path}");
    }
    assert_eq!(device.get(&format!("/?token={token}")).0, 303);
    assert_eq!(device.get("/?token=wrong").0, 401);
    assert_eq!(device.post("/image", OCTETS, &solid_colour_jpeg(RED, 1)).0, 401);
    assert_eq!(device.get("/healthz").0, 200);
}

#[test]
fn without_a_token_a_page_of_elsewhere_sees_nothing() {
    let scene = Scene::new(&[("1.jpg", RED)]);
    let device = Device::start(&scene, &[]);
    let ask = |path: &str| {
        device
            .send(
                format!("GET {path} HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n").as_bytes(),
            )
            .0
    };
    assert_eq!((ask("/snapshot.jpg"), ask("/events"), ask("/"), ask("/metrics")), (403, 403, 403, 200));
}

#[test]
fn clients_that_dawdle_do_not_keep_others_out() {
    let scene = Scene::new(&[("1.jpg", RED)]);
    let device = Device::start(&scene, &[]);
    let dawdlers: Vec<_> = (0..40)
        .map(|_| {
            let mut stream = device.connect();
            stream.write_all(b"GET / HTTP/1.1\r\nHost: x").unwrap();
            stream
        })
        .collect();
    assert_eq!(device.get("/healthz").0, 200);
    drop(dawdlers);
}

#[test]
fn bodies_that_never_end_or_are_made_of_nothing_do_no_harm() {
    let scene = Scene::new(&[("1.jpg", GREY)]);
    let device = Device::start(&scene, &[]);
    let parts = b"--b\r\nContent-Disposition: form-data; name=\"x\"\r\n\r\n\r\n".repeat(60_000);
    let (status, answer) = device.post("/image", "multipart/form-data; boundary=b", &parts);
    assert!((400..500).contains(&status), "{status} {answer}");
    // A body that is announced and does not come keeps nobody else waiting.
    let mut dawdler = device.connect();
    dawdler.write_all(b"POST /image HTTP/1.1\r\nHost: x\r\nContent-Length: 4000000\r\n\r\nabc").unwrap();
    let (status, answer) = device.post("/image", OCTETS, &solid_colour_jpeg(RED, 1));
    assert_eq!((status, best(&answer)), (200, "red"));
    assert_eq!(device.get("/healthz").0, 200);
}

#[test]
fn an_address_that_is_taken_is_told() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let scene = Scene::new(&[("1.jpg", RED)]);
    scene.run(&[("http", &address)]).expect(2, &["cannot listen on", "hint: "]);
    std::fs::write(scene.path("short"), "abc").unwrap();
    scene.run(&[("http", "0"), ("http-token-file", "short")]).expect(2, &["holds no token"]);
}

/// Draws the page in a browser and looks whether what must be seen is drawn.
#[test]
fn the_page_is_drawn_on_desktop_and_phone() {
    let browser = ["/usr/bin/chromium", "/usr/bin/google-chrome"]
        .into_iter()
        .find(|path| std::fs::exists(path).unwrap());
    let Some(browser) = browser else {
        eprintln!("SKIPPED: no chromium is installed, the page was not drawn");
        return;
    };
    let scene = Scene::new(&[("1.jpg", RED)]);
    let device = Device::start(&scene, &[]);
    for (name, size) in [("desktop", "1280,800"), ("phone", "390,844")] {
        let shot = scene.path(&format!("{name}.png"));
        let run = |arguments: &[String]| {
            std::process::Command::new(browser)
                .args(["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--timeout=6000"])
                .arg(format!("--user-data-dir={}", scene.path(name).display()))
                .arg(format!("--window-size={size}"))
                .args(arguments)
                .arg(format!("http://{}/", device.address))
                .output()
                .unwrap()
        };
        let (width, _) = size.split_once(',').unwrap();
        // The camera's red picture, large, and the bar of the label that is seen.
        let near =
            |pixel: &[u8; 3], colour: [u8; 3]| pixel.iter().zip(colour).all(|(a, b)| a.abs_diff(b) < 40);
        let mut shares = (0.0, 0.0);
        // A busy machine draws the page before its first event has come.
        for _ in 0..8 {
            run(&[format!("--screenshot={}", shot.display())]);
            let bytes = std::fs::read(&shot).unwrap();
            let picture = mynah_photo::decode(&bytes, &mynah_photo::Limits::default()).unwrap().image;
            assert_eq!(picture.width().to_string(), width);
            let pixels = picture.pixels().as_chunks::<3>().0;
            let share = |colour: [u8; 3]| {
                pixels.iter().filter(|pixel| near(pixel, colour)).count() as f64 / pixels.len() as f64
            };
            shares = (share(RED), share([0x2f, 0x6f, 0xde]));
            if shares.0 > 0.1 && shares.1 > 0.001 {
                break;
            }
        }
        assert!(shares.0 > 0.1 && shares.1 > 0.001, "{name}: camera and bar cover {shares:?}");
        if let Some(keep) = std::env::var_os("MYNAH_SCREENSHOTS") {
            std::fs::copy(&shot, std::path::Path::new(&keep).join(format!("{name}.png"))).unwrap();
        }
    }
}
