//! `mynah-testkit`: the doubles of the Azure services, for a person who tries the cloud way on a laptop.

use std::io::{BufRead as _, Write as _};
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use mynah_testkit::customvision::{CustomVision, Settings};
use mynah_testkit::iothub::IotHub;
use mynah_testkit::speech::SpeechService;

const USAGE: &str = "\
Usage: mynah-testkit serve [--port N] [--record FILE]

Serves doubles of Custom Vision, IoT Hub and Speech on this machine until Enter is pressed or standard input ends.

  --port N       the port of Custom Vision; any free one without it
  --record FILE  write what was asked and answered there, as JSON lines, for a judge of the published contracts
";

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    match arguments.next().as_deref() {
        Some("serve") => serve(arguments),
        Some("--help" | "-h") => say(USAGE),
        other => bail!("`{}` is no command\n\n{USAGE}", other.unwrap_or_default()),
    }
}

fn serve(mut arguments: impl Iterator<Item = String>) -> Result<()> {
    let (mut port, mut record) = (0, None);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().with_context(|| format!("`{argument}` needs a value"));
        match argument.as_str() {
            "--port" => port = value()?.parse().context("`--port` takes a number up to 65535")?,
            "--record" => record = Some(value()?),
            other => bail!("`{other}` is no option\n\n{USAGE}"),
        }
    }
    let settings = Settings::default();
    let key = settings.key.clone();
    let vision = CustomVision::start_on(port, settings)?;
    let (hub, speech) = (IotHub::default(), SpeechService::default());
    hub.add_edge_device("pi-1", serde_json::json!({"room": "hall"}));
    let (at_hub, at_speech) = (hub.start(0)?, speech.start(0)?);
    say(&format!(
        "Custom Vision  {endpoint}\n\
         IoT Hub        {hub_url}, with the edge device pi-1\n\
         Speech         {speech_url}\n\n\
         Try it:\n  CUSTOM_VISION_KEY={key} mynah run --trainer custom-vision --endpoint {endpoint} --project try\n  \
         SPEECH_KEY={speech_key} build-modules --azure-speech {speech_url} --model mynah-out/model --out mynah-out/images\n  \
         IOTHUB_CONNECTION_STRING='{string}' deploy-modules --target iot-hub --device pi-1 \
         --manifest mynah-out/deployment.json --out mynah-out/deployed\n\n\
         Press Enter to stop.\n",
        endpoint = vision.endpoint(),
        hub_url = at_hub.url(),
        speech_url = at_speech.url(),
        speech_key = SpeechService::KEY,
        string = IotHub::connection_string(at_hub.url().trim_start_matches("http://")),
    ))?;
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line)?;
    if let Some(file) = record {
        std::fs::write(Path::new(&file), vision.wire().record()?)
            .with_context(|| format!("cannot write `{file}`"))?;
    }
    for what in [vision.wire().violations(), hub.wire.violations(), speech.wire.violations()].concat() {
        say(&format!("broken contract: {what}\n"))?;
    }
    Ok(())
}

fn say(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}
