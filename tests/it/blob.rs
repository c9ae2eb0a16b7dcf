//! `import-images` from a container of Blob Storage, as an agent runs it: Azurite where it is installed, doubles always.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::sleep;
use std::time::Duration;

use mynah_testkit::azurite;
use mynah_testkit::blobs::{BlobStorage, KEY};
use mynah_testkit::tokens::{CLIENT_ID, CONNECTION, JOB_TOKEN, TENANT, TokenService};

use crate::azurite::azurite;
use crate::given::{Ran, binary, files, small_source};

/// An import as an agent starts it.
fn import(source: &str, out: &Path) -> Command {
    let mut command = binary("import-images");
    command.env("TF_BUILD", "True").env("INPUT_SOURCE", source).env("INPUT_OUT", out);
    command
}

fn ran(mut command: Command) -> Ran {
    command.output().unwrap().into()
}

fn variable<'a>(ran: &'a Ran, name: &str) -> &'a str {
    let start = format!("##vso[task.setvariable variable={name};isOutput=true]");
    ran.stdout
        .lines()
        .find_map(|line| line.strip_prefix(&start))
        .unwrap_or_else(|| panic!("no {name}:\n{}", ran.stdout))
}

/// The samples below `root`, by their names below it.
fn samples(root: &Path) -> Vec<(String, Vec<u8>)> {
    files(&small_source(root))
        .into_iter()
        .map(|(path, bytes)| (path.to_str().unwrap().to_owned(), bytes))
        .collect()
}

/// A double that holds the samples below `folder`.
fn storage(root: &Path) -> BlobStorage {
    let storage = BlobStorage::start().unwrap();
    for (name, bytes) in samples(root) {
        storage.put(&format!("folder/{name}"), &bytes, None);
    }
    storage
}

#[test]
fn azurite_takes_our_signatures_and_we_take_its_answers() {
    let Some(azurite) = azurite() else { return };
    let root = tempfile::tempdir().unwrap();
    let samples = samples(root.path());
    for (name, bytes) in &samples {
        azurite.upload(&format!("a%20%C3%BC/{name}"), bytes).unwrap();
    }
    azurite
        .upload("a%20%C3%BC/fish/%23%23vso%5Bx%5D%20%252F.jpg", &fs::read(samples_photo("mammal")).unwrap())
        .unwrap();
    azurite.upload("a%20%C3%BC/fish/empty.jpg", b"").unwrap();
    azurite.upload("a%20%C3%BCx/other/1.jpg", b"beside the prefix").unwrap();
    let source = format!("{}/a%20%C3%BC/", azurite.container());
    let connection = format!(
        "DefaultEndpointsProtocol=http;AccountName={};AccountKey={};BlobEndpoint={};",
        azurite::ACCOUNT,
        azurite::KEY,
        azurite.container().rsplit_once('/').unwrap().0
    );
    let (by_key, by_connection) = (root.path().join("key"), root.path().join("connection"));
    let mut command = import(&source, &by_key);
    command.env("AZURE_STORAGE_KEY", azurite::KEY);
    let first = ran(command).well();
    assert_eq!((variable(&first, "photos"), variable(&first, "changed")), ("11", "true"));
    let mut command = import(&source, &by_connection);
    command.env("AZURE_STORAGE_CONNECTION_STRING", &connection);
    ran(command).well();
    assert!(files(&by_key) == files(&by_connection));
    let record = fs::read_to_string(by_key.join("dataset.json")).unwrap();
    assert!(record.contains("fish/##vso[x] %2F.jpg") && !record.contains("other/1.jpg"), "{record}");

    azurite.delete("a%20%C3%BC/fish/%23%23vso%5Bx%5D%20%252F.jpg").unwrap();
    let mut command = import(&source, &by_key);
    command.env("AZURE_STORAGE_KEY", azurite::KEY);
    let second = ran(command).well();
    assert_eq!((variable(&second, "photos"), variable(&second, "changed")), ("10", "true"));
    assert!(
        second.stdout.contains("(0 fetched, 0 copied, 1 removed, 1 files left out)"),
        "{}",
        second.stdout
    );

    for (name, value, words) in [
        ("AZURE_STORAGE_KEY", "d3Jvbmcta2V5LXdyb25n", "the key is not this account's"),
        (
            "AZURE_STORAGE_SAS_TOKEN",
            "sv=2021-12-02&sr=c&sp=rl&se=2020-01-01T00:00:00Z&sig=d3Jvbmcta2V5LXdyb25n",
            "has expired",
        ),
    ] {
        let mut command = import(&source, &by_key);
        command.env(name, value);
        let refused = ran(command);
        assert_eq!(refused.code, Some(3), "{}", refused.stdout);
        assert!(refused.stdout.contains(words), "{}", refused.stdout);
        let spoken = refused.stdout.lines().filter(|line| !line.starts_with("##vso[task.setsecret]"));
        assert!(spoken.clone().all(|line| !line.contains("d3Jvbmcta2V5LXdyb25n")), "{}", refused.stdout);
        assert!(spoken.count() > 0);
    }
}

/// A photo that the samples of two labels do not hold.
fn samples_photo(label: &str) -> std::path::PathBuf {
    let folder = crate::given::root().join("samples/photos").join(label);
    let mut photos: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    photos.sort();
    photos.remove(0)
}

#[test]
fn killed_at_many_moments_an_import_ends_as_if_nothing_had_happened() {
    let root = tempfile::tempdir().unwrap();
    let storage = storage(root.path());
    let source = format!("{}/folder", storage.container());
    let with_key = |out: &Path| {
        let mut command = import(&source, out);
        command.env("AZURE_STORAGE_KEY", KEY);
        command
    };
    let calm = root.path().join("calm");
    ran(with_key(&calm)).well();
    let disturbed = root.path().join("disturbed");
    for round in 0..12 {
        let mut child = with_key(&disturbed).stdout(Stdio::null()).spawn().unwrap();
        sleep(Duration::from_millis(3 + 9 * round));
        // SIGKILL: no chance to tidy up.
        let _ = child.kill();
        let _ = child.wait();
    }
    ran(with_key(&disturbed)).well();
    assert!(files(&calm) == files(&disturbed));
    assert_eq!(storage.wire.violations(), [""; 0]);
    assert_eq!(variable(&ran(with_key(&disturbed)).well(), "changed"), "false");
}

#[test]
fn a_service_connection_opens_the_container_and_its_tokens_are_masked() {
    let root = tempfile::tempdir().unwrap();
    let (storage, tokens) = (storage(root.path()), TokenService::start(0).unwrap());
    let mut command = import(&format!("{}/folder", storage.container()), &root.path().join("out"));
    command
        .env("INPUT_CONNECTION", CONNECTION)
        .env("AZURE_STORAGE_KEY", "not base64: the connection comes first")
        .env(format!("ENDPOINT_AUTH_SCHEME_{CONNECTION}"), "WorkloadIdentityFederation")
        .env(format!("ENDPOINT_AUTH_PARAMETER_{CONNECTION}_TENANTID"), TENANT)
        .env(format!("ENDPOINT_AUTH_PARAMETER_{CONNECTION}_SERVICEPRINCIPALID"), CLIENT_ID)
        .env(format!("ENDPOINT_DATA_{CONNECTION}_ENVIRONMENTAUTHORITYURL"), tokens.url())
        .env("SYSTEM_OIDCREQUESTURI", format!("{}/oidc", tokens.url()))
        .env("ENDPOINT_AUTH_PARAMETER_SYSTEMVSSCONNECTION_ACCESSTOKEN", JOB_TOKEN);
    let ended = ran(command).well();
    assert_eq!(variable(&ended, "photos"), "10");
    for secret in [JOB_TOKEN, "federated.token.0", "access-token-0-of-this-tenant"] {
        let first = ended.stdout.lines().find(|line| line.contains(secret)).unwrap();
        assert!(first.starts_with("##vso[task.setsecret]"), "{first}");
        assert_eq!(ended.stdout.matches(secret).count(), 1, "{}", ended.stdout);
    }
    assert_eq!(tokens.wire.violations(), [""; 0]);
}

#[cfg(unix)]
#[test]
fn the_azure_cli_is_asked_last() {
    use std::os::unix::fs::PermissionsExt as _;
    let root = tempfile::tempdir().unwrap();
    let storage = storage(root.path());
    let source = format!("{}/folder", storage.container());
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let ask = |path: &Path| {
        let mut command = import(&source, &root.path().join("out"));
        // No machine's own metadata service is asked.
        command.env("PATH", path).env("AZURE_POD_IDENTITY_AUTHORITY_HOST", format!("http://{nobody}"));
        ran(command)
    };
    let refused = ask(&root.path().join("nowhere"));
    assert_eq!(refused.code, Some(2));
    assert!(refused.stdout.contains("nobody to sign in to Azure as") && refused.stdout.contains("az login"));

    let tools = root.path().join("tools");
    fs::create_dir(&tools).unwrap();
    let cli = tools.join("az");
    let script = "#!/bin/sh\n[ \"$*\" = 'account get-access-token --output json --scope https://storage.azure.com/.default' ] || exit 9\n\
        echo '{\"accessToken\": \"token-of-the-cli-user\", \"expires_on\": 4102444800}'\n";
    fs::write(&cli, script).unwrap();
    fs::set_permissions(&cli, fs::Permissions::from_mode(0o755)).unwrap();
    let ended = ask(&tools).well();
    assert!(ended.stdout.contains("##vso[task.setsecret]token-of-the-cli-user\n"), "{}", ended.stdout);

    fs::write(&cli, "#!/bin/sh\necho \"ERROR: Please run 'az login' to setup account.\" >&2\nexit 1\n")
        .unwrap();
    let refused = ask(&tools);
    assert!(refused.stdout.contains("Please run 'az login' to setup account."), "{}", refused.stdout);
}

#[test]
fn the_environments_proxy_is_used_and_its_exceptions_heard() {
    let root = tempfile::tempdir().unwrap();
    let storage = storage(root.path());
    let source = format!("{}/folder", storage.container());
    let proxy = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://user:proxy-password@{}", proxy.local_addr().unwrap());
    let heard = Arc::new(Mutex::new(String::new()));
    let hears = Arc::clone(&heard);
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = proxy.accept() {
            let mut head = [0; 2048];
            let read = stream.read(&mut head).unwrap_or(0);
            hears.lock().unwrap().push_str(&String::from_utf8_lossy(&head[..read]));
            let _ =
                stream.write_all(b"HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n");
        }
    });
    let ask = |no_proxy: &str| {
        let mut command = import(&source, &root.path().join("out"));
        command.env("AZURE_STORAGE_KEY", KEY).env("HTTP_PROXY", &address).env("NO_PROXY", no_proxy);
        ran(command)
    };
    let refused = ask("");
    assert_eq!(refused.code, Some(3), "{}", refused.stdout);
    assert!(refused.stdout.contains("407") && refused.stdout.contains("HTTPS_PROXY"), "{}", refused.stdout);
    assert!(!refused.stdout.contains("proxy-password"), "{}", refused.stdout);
    assert!(heard.lock().unwrap().starts_with("GET http://127.0.0.1:"), "{}", heard.lock().unwrap());
    ask("127.0.0.1").well();
}

#[test]
fn an_agents_proxy_is_used_with_its_password_which_is_never_told() {
    let root = tempfile::tempdir().unwrap();
    let proxy = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", proxy.local_addr().unwrap());
    let heard = Arc::new(Mutex::new(String::new()));
    let hears = Arc::clone(&heard);
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = proxy.accept() {
            let mut head = [0; 2048];
            let read = stream.read(&mut head).unwrap_or(0);
            hears.lock().unwrap().push_str(&String::from_utf8_lossy(&head[..read]));
            let _ =
                stream.write_all(b"HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n");
        }
    });
    let ask = |source: &str, proxy: &str| {
        let mut command = import(source, &root.path().join("out"));
        command.env("AZURE_STORAGE_ACCOUNT", "acc").env("AZURE_STORAGE_KEY", KEY);
        command.env("AGENT_PROXYURL", proxy).env("AGENT_PROXYUSERNAME", "agent");
        command.env("AGENT_PROXYPASSWORD", "proxy-password-4711");
        command.env("AGENT_PROXYBYPASSLIST", r#"["excepted\\.example"]"#);
        ran(command)
    };
    let refused = ask("https://acc.blob.core.windows.net/c", &address);
    assert_eq!(refused.code, Some(3), "{}", refused.stdout);
    assert!(refused.stdout.contains("--proxypassword"), "{}", refused.stdout);
    let said = refused.stdout.lines().filter(|line| !line.starts_with("##vso[task.setsecret]"));
    assert!(said.chain(refused.stderr.lines()).all(|line| !line.contains("proxy-password-4711")));
    let asked = heard.lock().unwrap().clone();
    // `agent:proxy-password-4711`, as RFC 7617 has it.
    let signed = "YWdlbnQ6cHJveHktcGFzc3dvcmQtNDcxMQ==";
    assert!(asked.starts_with("CONNECT acc.blob.core.windows.net:443") && asked.contains(signed), "{asked}");

    heard.lock().unwrap().clear();
    let storage = storage(root.path());
    ask(&format!("{}/folder", storage.container()), &address).well();
    assert_eq!(*heard.lock().unwrap(), "", "this machine's own services were asked for at the proxy");
    let refused = ask("https://acc.blob.core.windows.net/c", "proxy.example:8080");
    assert_eq!(refused.code, Some(2), "{}", refused.stdout);
    assert!(refused.stdout.contains("AGENT_PROXYURL") && refused.stdout.contains("--proxyurl"));
}

#[test]
fn a_source_with_a_secret_and_a_place_that_is_none_are_refused() {
    let root = tempfile::tempdir().unwrap();
    let out = root.path().join("out");
    for (source, words) in [
        ("https://acc.blob.core.windows.net/c?sig=signature-4711", "AZURE_STORAGE_SAS_TOKEN"),
        ("https://acc.blob.core.windows.net/", "names no container"),
        ("http://storage.example/acc/c", "is not encrypted"),
    ] {
        let mut command = import(source, &out);
        command.env("AZURE_STORAGE_ACCOUNT", "acc").env("AZURE_STORAGE_KEY", KEY);
        let refused = ran(command);
        assert_eq!(refused.code, Some(2), "{}", refused.stdout);
        assert!(
            refused.stdout.contains(words) && !refused.stdout.contains("signature-4711"),
            "{}",
            refused.stdout
        );
    }
    let mut command = import("photos", &out);
    command.env("INPUT_CONNECTION", "mine");
    let refused = ran(command);
    assert_eq!(refused.code, Some(2));
    assert!(refused.stdout.contains("`--connection` (input `connection`)"), "{}", refused.stdout);
}

#[test]
fn the_last_trained_dataset_ends_the_import_with_one_listing() {
    let root = tempfile::tempdir().unwrap();
    let storage = storage(root.path());
    let source = format!("{}/folder", storage.container());
    let start = |out: &str| {
        let mut command = import(&source, &root.path().join(out));
        command.env("AZURE_STORAGE_KEY", KEY);
        command
    };
    ran(start("first")).well();
    let asked = storage.wire.exchanges().len();
    for trained in ["first", "first/dataset.json"] {
        let mut command = start("second");
        command.env("INPUT_TRAINED", root.path().join(trained));
        let spared = ran(command).well();
        assert_eq!((variable(&spared, "changed"), variable(&spared, "photos")), ("false", "10"));
    }
    assert_eq!(storage.wire.exchanges().len(), asked + 2);
    assert!(!root.path().join("second").exists());
    storage.remove("folder/fish/fish1.jpg");
    storage.put("folder/fish/new.jpg", &fs::read(samples_photo("mammal")).unwrap(), None);
    let mut command = start("second");
    command.env("INPUT_TRAINED", root.path().join("first"));
    assert_eq!(variable(&ran(command).well(), "changed"), "true");
}
