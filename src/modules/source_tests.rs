//! Modules from sources: three platforms at once, unchanged ones untouched, mistakes told.

use mynah_contracts::Quiet;

use super::*;
use crate::oci::OciError;
use crate::oci::base::BaseImage;
use crate::oci::layout::Layout;

/// No registry.
struct Nothing;

impl BaseImages for Nothing {
    fn resolve(&self, reference: &ImageReference, _: Platform) -> Result<BaseImage, Fault> {
        let problem = "is nowhere to be found".into();
        Err(OciError::Unsupported { what: reference.to_string(), problem }.into())
    }
}

const MODULE: &str = r#"{"$schema-version":"0.0.1","image":{"repository":"Host.example:5000/Camera",
    "tag":{"version":"1.2.3","platforms":{"amd64":"Dockerfile","arm64v8":"Dockerfile","arm32v7":"./Dockerfile",
    "amd64.debug":"Dockerfile.debug","windows-amd64":"W"}},"buildOptions":["--build-arg V=7","--rm"]}}"#;

const DOCKERFILE: &str =
    "FROM scratch\nARG V TARGETARCH\nCOPY app /app\nLABEL v=$V arch=$TARGETARCH\nCMD [\"/app\"]\n";

struct Bench(tempfile::TempDir);

impl Bench {
    fn new(module: &str, dockerfile: &str) -> Self {
        let bench = Self(tempfile::tempdir().unwrap());
        fs::create_dir_all(bench.at("modules/Camera")).unwrap();
        fs::write(bench.at("modules/Camera/module.json"), module).unwrap();
        fs::write(bench.at("modules/Camera/Dockerfile"), dockerfile).unwrap();
        fs::write(bench.at("modules/Camera/app"), "app").unwrap();
        fs::write(bench.at("modules/readme.txt"), "no module").unwrap();
        bench
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn build(&self, platforms: &[Platform]) -> Result<(Module, bool), Fault> {
        self.build_one(&find(&self.at("modules"), &|_| None)?[0], platforms)
    }

    fn build_one(&self, source: &ModuleSource, platforms: &[Platform]) -> Result<(Module, bool), Fault> {
        let around = Surroundings {
            platforms,
            bases: &Nothing,
            builder: None,
            cache: &LayerCache::new(&self.at("cache")),
            created: None,
            monitor: &Quiet,
        };
        source.build(&self.at("out"), &around)
    }
}

#[test]
fn one_index_for_three_platforms_and_the_second_run_changes_nothing() {
    let bench = Bench::new(MODULE, DOCKERFILE);
    let (module, changed) = bench.build(&Platform::ALL).unwrap();
    assert!(changed);
    assert_eq!((module.name.as_str(), module.repository.as_str()), ("Camera", "host.example:5000/camera"));
    assert!(module.tag.starts_with("1.2.3-"), "{}", module.tag);
    let layout = Layout::open(&bench.at("out/Camera")).unwrap();
    layout.verify().unwrap();
    for platform in Platform::ALL {
        let image = layout.image(module.index.digest, platform).unwrap();
        assert_eq!(image.config.config.labels["v"], "7");
        assert_eq!(image.config.config.labels["arch"], platform.architecture());
    }
    let layer = |at: usize| &module.platforms[at].layers;
    assert!(layer(0) == layer(1) && layer(1) == layer(2), "the same files are one blob");
    assert_eq!(bench.build(&Platform::ALL).unwrap(), (module, false));
}

#[test]
fn images_for_debugging_are_a_module_of_their_own() {
    let bench = Bench::new(MODULE, DOCKERFILE);
    fs::write(bench.at("modules/Camera/Dockerfile.debug"), format!("{DOCKERFILE}EXPOSE 5678\n")).unwrap();
    let source = find(&bench.at("modules"), &|_| None).unwrap().remove(0);
    let (debugging, platforms) = source.for_debugging(&Platform::ALL).unwrap();
    assert_eq!(
        (debugging.name.as_str(), platforms.as_slice()),
        ("Camera.debug", &[Platform::LinuxAmd64][..])
    );
    let (module, _) = bench.build_one(&debugging, &platforms).unwrap();
    let image = Layout::open(&bench.at("out/Camera.debug")).unwrap();
    let image = image.image(module.index.digest, Platform::LinuxAmd64).unwrap();
    assert!(image.config.config.exposed_ports.contains_key("5678/tcp"));
    assert_eq!(source.for_debugging(&[Platform::LinuxArm64]), None);
    assert_eq!(debugging.for_debugging(&Platform::ALL), None);
}

#[test]
fn what_people_read_when_a_module_cannot_be_built() {
    let told = |module: &str, dockerfile: &str| {
        let bench = Bench::new(module, dockerfile);
        let fault = bench.build(&[Platform::LinuxAmd64]).unwrap_err();
        let text = format!("{}\n  {}", fault.chain(), fault.hint().unwrap_or_default());
        text.trim_end().replace(&bench.at("").display().to_string(), "…/")
    };
    let no_platform = MODULE.replace("\"amd64\"", "\"amd32\"");
    let tagged = MODULE.replace("/Camera\"", "/Camera:1\"");
    let option = MODULE.replace("--rm", "--secret id=1");
    let told = [
        told("{", DOCKERFILE),
        told(&no_platform, DOCKERFILE),
        told(&tagged, DOCKERFILE),
        told(&option, DOCKERFILE),
        told(MODULE, "FROM scratch\n\nRUN apt-get update"),
        told(MODULE, "FROM scratch\nCOPPY a b"),
        told(MODULE, "FROM debian"),
    ];
    insta::assert_snapshot!(told.join("\n"), @r#"
    `…/modules/Camera/module.json` is not a valid module.json: EOF while parsing an object at line 1 column 1
    `…/modules/Camera/module.json` has no Dockerfile for linux/amd64, only for: linux/arm64, linux/arm/v7
      add it to `image.tag.platforms`, or leave the platform out of --platform
    `…/modules/Camera/module.json`: `image.repository` is `host.example:5000/camera:1`: the tag is not its business
    `…/modules/Camera/module.json`: the build option `--secret` is not supported
    `…/modules/Camera/Dockerfile` line 3: `RUN` starts programs inside the image, which needs a builder: buildah or docker
      give `--builder buildah` or `--builder docker` where one is installed, or make the files beforehand and COPY them
    `…/modules/Camera/Dockerfile` line 2: `COPPY` is no instruction, did you mean `COPY`?
    `…/modules/Camera/Dockerfile` line 1: cannot use the base image `debian`: `docker.io/library/debian:latest` is nowhere to be found
    "#);
    let empty = tempfile::tempdir().unwrap();
    assert!(matches!(find(empty.path(), &|_| None), Err(ModuleError::NoModules(_))));
}
