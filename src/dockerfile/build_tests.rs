//! Dockerfiles carried out: what ends up in the image, and what people read when it cannot be.

use std::fs;
use std::io::Read as _;
use std::path::PathBuf;

use mynah_contracts::{Quiet, error_chain};

use super::super::parse::parse;
use super::*;
use crate::oci::image::ImageParts;
use crate::oci::layer::Source;
use crate::oci::layer_cache::LayerCache;
use crate::oci::layout::{Layout, LayoutWriter};
use crate::oci::reference::ImageReference;

/// No registry.
struct Nothing;

impl BaseImages for Nothing {
    fn resolve(&self, reference: &ImageReference, platform: Platform) -> Result<BaseImage, Fault> {
        let problem = format!("is nowhere to be found for {platform}");
        Err(OciError::Unsupported { what: reference.to_string(), problem }.into())
    }
}

struct Bench(tempfile::TempDir);

impl Bench {
    fn new(files: &[(&str, &str)]) -> Self {
        let bench = Self(tempfile::tempdir().unwrap());
        for (name, content) in files {
            let path = bench.at("context").join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        fs::create_dir_all(bench.at("context")).unwrap();
        bench
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn build(&self, text: &str, arguments: &[(&str, &str)]) -> Result<Built, String> {
        let told =
            |error: &DockerfileError| error_chain(error).replace(&self.at("").display().to_string(), "…/");
        let file = self.at("context/Dockerfile");
        let dockerfile =
            parse(text).map_err(|(line, problem)| told(&DockerfileError::at(&file, line)(problem)))?;
        let arguments = arguments.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        let request = Request {
            file: &file,
            dockerfile: &dockerfile,
            context: &self.at("context"),
            platform: Platform::LinuxArm64,
            arguments: &arguments,
            target: None,
            bases: &Nothing,
            created: None,
            monitor: &Quiet,
        };
        build(&request).map_err(|error| told(&error))
    }

    /// Writes the image as a layout and gives its config with what `layers` hold: name, mode, owner, content.
    fn image(&self, name: &str, text: &str, arguments: &[(&str, &str)]) -> (ImageConfig, Vec<Vec<String>>) {
        let built = self.build(text, arguments).unwrap();
        let mut layout = LayoutWriter::open(&self.at(name)).unwrap();
        let parts = ImageParts {
            platform: Platform::LinuxArm64,
            base: &built.base,
            layers: built.layers,
            config: built.config,
            annotations: BTreeMap::new(),
            created: None,
        };
        let cache = LayerCache::new(&self.at("cache"));
        let (descriptor, _) = parts.write(&mut layout, &cache).unwrap();
        let digest = descriptor.digest;
        layout.finish(descriptor, "1").unwrap();
        let layout = Layout::open(&self.at(name)).unwrap();
        layout.verify().unwrap();
        let image = layout.image(digest, Platform::LinuxArm64).unwrap();
        let layers = image.manifest.layers.iter().map(|layer| {
            let blob = flate2::read::MultiGzDecoder::new(layout.blob(layer).unwrap());
            tar::Archive::new(blob)
                .entries()
                .unwrap()
                .map(|entry| {
                    let mut entry = entry.unwrap();
                    let mut content = String::new();
                    entry.read_to_string(&mut content).unwrap();
                    let header = entry.header();
                    let link = header.link_name().unwrap().map(|link| format!(" -> {}", link.display()));
                    format!(
                        "{} {:o} {}:{} {content}{}",
                        entry.path().unwrap().display(),
                        header.mode().unwrap(),
                        header.uid().unwrap(),
                        header.gid().unwrap(),
                        link.unwrap_or_default()
                    )
                    .trim_end()
                    .to_owned()
                })
                .collect()
        });
        (image.config, layers.collect())
    }
}

#[test]
fn files_settings_and_stages_become_an_image() {
    let bench = Bench::new(&[
        ("app/main.py", "print"),
        ("app/test/t.py", "test"),
        ("labels.txt", "a\nb"),
        (".dockerignore", "**/test"),
    ]);
    let text = r#"
ARG VERSION=1
FROM scratch AS files
ARG VERSION
COPY --chown=7:8 --chmod=640 app /srv/app
COPY <<EOF /etc/version
version $VERSION on ${TARGETARCH:-unset}
EOF
FROM scratch
ARG TARGETARCH
ENV HOME=/srv/${TARGETARCH} NAME="a b"
LABEL by=$NAME
WORKDIR /srv
COPY --from=files /srv/app/*.py ./
COPY --from=files /etc/version /etc/
COPY labels.txt copy.txt
EXPOSE 80 53/udp
VOLUME ["/data"]
USER 10001
STOPSIGNAL SIGINT
HEALTHCHECK --interval=30s CMD ["/srv/main.py", "check"]
ENTRYPOINT ["/srv/main.py"]
CMD say $HOME
"#;
    let (config, layers) = bench.image("image", text, &[("VERSION", "2")]);
    assert_eq!(
        layers,
        [
            vec!["srv/ 755 0:0"],
            vec!["srv/ 755 0:0", "srv/main.py 640 7:8 print"],
            vec!["etc/ 755 0:0", "etc/version 644 0:0 version 2 on unset"],
            vec!["srv/ 755 0:0", "srv/copy.txt 644 0:0 a\nb"],
        ]
    );
    insta::assert_snapshot!(serde_json::to_string(&config.config).unwrap(), @r#"{"User":"10001","ExposedPorts":{"53/udp":{},"80/tcp":{}},"Env":["HOME=/srv/arm64","NAME=a b"],"Entrypoint":["/srv/main.py"],"Cmd":["/bin/sh","-c","say $HOME"],"Volumes":{"/data":{}},"WorkingDir":"/srv","Labels":{"by":"a b"},"StopSignal":"SIGINT","Healthcheck":{"Test":["CMD","/srv/main.py","check"],"Interval":30000000000}}"#);
    assert_eq!(config.history.len(), 4);
}

#[test]
fn an_image_on_a_layout_follows_its_links_and_keeps_its_folders() {
    let bench = Bench::new(&[("file", "new")]);
    fs::create_dir_all(bench.at("context/base/usr/bin")).unwrap();
    fs::create_dir_all(bench.at("context/base/tmp")).unwrap();
    fs::create_dir_all(bench.at("context/base/etc")).unwrap();
    fs::write(bench.at("context/base/etc/passwd"), "mynah:x:12:13:::\n").unwrap();
    std::os::unix::fs::symlink("usr/bin", bench.at("context/base/bin")).unwrap();
    let mode = <fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o1777);
    fs::set_permissions(bench.at("context/base/tmp"), mode).unwrap();
    let base = "FROM scratch\nCOPY base /\nENV PATH=/bin\nENTRYPOINT [\"/bin/x\"]\nCMD [\"y\"]";
    bench.image("context/layout", base, &[]);
    let text = "FROM oci:layout:1\nCOPY --chown=mynah file /bin/\nCOPY file /tmp/a\n\
                COPY --from=oci:layout /etc/passwd /users\nENTRYPOINT [\"/bin/file\"]";
    let (config, layers) = bench.image("image", text, &[]);
    assert_eq!(layers.len(), 4);
    assert_eq!(layers[1], ["usr/ 755 0:0", "usr/bin/ 755 0:0", "usr/bin/file 644 12:13 new"]);
    assert_eq!(layers[2], ["tmp/ 1777 0:0", "tmp/a 644 0:0 new"]);
    assert_eq!(layers[3], ["users 644 0:0 mynah:x:12:13:::"]);
    assert_eq!((config.config.env, config.config.cmd), (vec!["PATH=/bin".to_owned()], Vec::<String>::new()));
}

#[test]
fn add_unpacks_an_archive() {
    let bench = Bench::new(&[]);
    let mut layer = Layer::new(Owner { uid: 3, gid: 4 }, 9);
    layer.add_file("d/inside", 0o600, Source::Bytes(b"x".to_vec())).unwrap();
    let mut bytes = Vec::new();
    layer.write(&mut bytes, Path::new("memory")).unwrap();
    fs::write(bench.at("context/a.tar.gz"), &bytes).unwrap();
    let built = bench.build("FROM scratch\nCOPY a.tar.gz /as/it/is/", &[]).unwrap();
    assert_eq!(built.layers.len(), 1);
    let (_, layers) = bench.image("image", "FROM scratch\nADD a.tar.gz /to", &[]);
    assert_eq!(layers[0], ["to/ 755 0:0", "to/d/ 755 3:4", "to/d/inside 600 3:4 x"]);
}

#[test]
fn the_same_files_give_the_same_image_whenever_and_wherever_they_were_written() {
    let text = "FROM scratch\nCOPY . /x/";
    let build = || Bench::new(&[("a", "1"), ("b/c", "2")]).image("image", text, &[]).0;
    assert_eq!(build(), build());
}

#[test]
fn what_people_read_when_it_cannot_be_done() {
    let bench = Bench::new(&[("a", "1"), ("d/x", "2"), ("secret", "3"), (".dockerignore", "secret")]);
    std::os::unix::fs::symlink("/etc", bench.at("context/etc")).unwrap();
    fs::write(bench.at("a"), "not the context's").unwrap();
    std::os::unix::fs::symlink("d/../..", bench.at("context/up")).unwrap();
    let told: Vec<String> = [
        "FROM scratch\nRUN true",
        "FROM debian:bookworm",
        "FROM $BASE",
        "FROM Debian!",
        "FROM oci:none",
        "FROM a AS a",
        "FROM scratch AS b\nCOPY --from=c a /\nFROM scratch AS c\nCOPY --from=b /a /",
        "FROM scratch\nCOPY none /",
        "FROM scratch\nCOPY secret /",
        "FROM scratch\nCOPY ../a /",
        "FROM scratch\nCOPY etc /etc",
        "FROM scratch\nCOPY etc/passwd /",
        "FROM scratch\nCOPY up/a /",
        "FROM scratch\nADD up /",
        "FROM scratch\nCOPY a d /x",
        "FROM scratch\nCOPY a /x\nCOPY d /x",
        "FROM scratch\nCOPY --chown=moby a /",
        "FROM scratch\nCOPY --chmod=u+x a /",
        "FROM scratch\nADD https://example.com/a?token=1 /",
        "FROM scratch\nEXPOSE http",
        "FROM scratch\nENV a=\"${b:?say b}\"",
        "FROM --platform=linux/amd64 scratch",
        "FROM --platform=windows/amd64 scratch",
    ]
    .into_iter()
    .map(|text| bench.build(text, &[]).err().unwrap())
    .collect();
    insta::assert_snapshot!(told.join("\n"), @r#"
    `…/context/Dockerfile` line 2: `RUN` starts programs inside the image, which needs a builder: buildah or docker
    `…/context/Dockerfile` line 1: cannot use the base image `debian:bookworm`: `docker.io/library/debian:bookworm` is nowhere to be found for linux/arm64
    `…/context/Dockerfile` line 1: `FROM $BASE` names no image: a variable is empty
    `…/context/Dockerfile` line 1: `Debian!` is not an image such as `registry.example/name:tag` or `registry.example/name@sha256:…`
    `…/context/Dockerfile` line 1: cannot use the base image `oci:none`: cannot read `…/context/none/oci-layout`: No such file or directory (os error 2)
    `…/context/Dockerfile` line 1: the stage needs itself, `a`: stages would go in a circle
    `…/context/Dockerfile` line 2: the stage needs a stage that comes later, `c`: stages would go in a circle
    `…/context/Dockerfile` line 2: `none` matches nothing in `…/context`
    `…/context/Dockerfile` line 2: `secret` matches nothing in `…/context` that .dockerignore lets through
    `…/context/Dockerfile` line 2: `../a` leads out of the build context `…/context`
    `…/context/Dockerfile` line 2: `etc` leads out of the build context `…/context`
    `…/context/Dockerfile` line 2: `etc/passwd` leads out of the build context `…/context`
    `…/context/Dockerfile` line 2: `up/a` leads out of the build context `…/context`
    `…/context/Dockerfile` line 2: `up` leads out of the build context `…/context`
    `…/context/Dockerfile` line 2: there are 2 sources: the destination must be a folder, `/x/`
    `…/context/Dockerfile` line 3: `/x` is no folder: none can be put in its place
    `…/context/Dockerfile` line 2: `--chown` names `moby`, which is not in the image's /etc/passwd
    `…/context/Dockerfile` line 2: `--chmod` is `u+x`, an octal number such as `755` is expected
    `…/context/Dockerfile` line 2: fetching `https://example.com/a` is not supported
    `…/context/Dockerfile` line 2: `http` is no port such as `80`, `53/udp`, `8000-8010`
    `…/context/Dockerfile` line 2: the variable `b` is required: say b
    `…/context/Dockerfile` line 1: the base image is for linux/amd64, not for linux/arm64
    `…/context/Dockerfile` line 1: `--platform`: `windows/amd64` is not one of linux/amd64, linux/arm64, linux/arm/v7
    "#);
    let given = bench.build("FROM scratch\nARG A\nCOPY a /", &[("A", "1"), ("B", "2")]).unwrap();
    assert_eq!(given.unused, ["B"]);
}
