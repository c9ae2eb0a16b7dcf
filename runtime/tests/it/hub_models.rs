//! Models the hub desires: believed only when signed, taken up while the device runs, given back when they fail.

use std::time::{Duration, Instant};

use mynah_testkit::edge::EdgeHub;
use mynah_testkit::{GREY, ModelSigner, serve_folder};
use serde_json::{Value, json};

use crate::hub::{PATIENCE, broker, end, module};
use crate::scene::Scene;

#[test]
fn a_model_the_hub_desires_is_taken_up_while_the_device_runs() {
    let Some(broker) = broker() else { return };
    let scene = Scene::new(&[("1.jpg", GREY)]);
    // The same network, surer of itself: now grey is something.
    let offered = scene.path("offered");
    mynah_testkit::tiny_model_package(&offered).unwrap();
    mynah_testkit::edit_card(&offered, |card| card.calibration.reject_threshold = 0.1).unwrap();
    let card = std::fs::read(offered.join("model.json")).unwrap();
    let signer = ModelSigner::new(9).unwrap();
    std::fs::write(scene.path("keys"), signer.public_key()).unwrap();
    let address = serve_folder(offered).unwrap();
    let model = |signature: String| {
        json!({
            "url": format!("{address}/model.json"),
            "sha256": mynah_contracts::Sha256Digest::of(&card).hex(),
            "signature": signature,
        })
    };
    let settings = [
        ("source", "dir:frames?hold=1000&fps=20"),
        ("model-store", "models"),
        ("model-keys-file", "keys"),
        ("model-trial", "1"),
    ];
    let desired = json!({ "model": model(ModelSigner::new(8).unwrap().sign(&card)), "$version": 1 });
    let hub = EdgeHub::of_module(&broker, desired).unwrap();
    let child = module(&scene, &broker, &settings);
    let answer = |status: u16| {
        loop {
            let answer = hub.reported("model").unwrap();
            if answer["ac"] == status {
                return answer;
            }
        }
    };
    assert!(answer(400)["ad"].as_str().unwrap().contains("signature"));
    hub.desire(2, &json!({ "model": model(signer.sign(&card)) })).unwrap();
    hub.wait(|_, body| (body["model"]["ac"] == 200 && body["model"]["av"] == 2).then_some(())).unwrap();
    // After its trial it is what the device begins with, whatever ends the device.
    let note = scene.path("models/models.json");
    let started = Instant::now();
    while serde_json::from_slice::<Value>(&std::fs::read(&note).unwrap()).unwrap()["trial"] != false {
        assert!(started.elapsed() < PATIENCE);
        std::thread::sleep(Duration::from_millis(50));
    }
    end(child);
    let again = scene.run(&[("model-store", "models"), ("model-keys-file", "keys"), ("votes", "1")]);
    again.expect(0, &["threshold 0.10", "says: "]);
}
