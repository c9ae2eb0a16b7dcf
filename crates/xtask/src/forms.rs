//! What a task's form needs beside the step's declared options: ids, labels, groups, and when an input is shown.

/// A task's form.
pub(crate) struct Form {
    /// The task, as [`mynah::step::Step::TASK`] has it.
    pub(crate) task: &'static str,
    /// Its id, which never changes.
    pub(crate) id: &'static str,
    /// Its id in the test channel, so that both can be installed side by side.
    pub(crate) test_id: &'static str,
    /// Its title, at most 40 characters.
    pub(crate) title: &'static str,
    /// What a step of it is called in a run; `$(input)` is filled in.
    pub(crate) step_name: &'static str,
    /// The task's category.
    pub(crate) category: &'static str,
    /// The kind of service connection that its input `connection` takes.
    pub(crate) connection: &'static str,
    /// Labels that are not just the option's name in words.
    pub(crate) labels: &'static [(&'static str, &'static str)],
    /// Inputs shown only under a condition, outside of a group.
    pub(crate) shown: &'static [(&'static str, &'static str)],
    /// Help for inputs of which a pipeline allows less than the command line.
    pub(crate) help: &'static [(&'static str, &'static str)],
    /// The groups. Optional inputs that are in none go into the last, "More".
    pub(crate) groups: &'static [Group],
    /// Inputs that stand above the groups, beside the required ones.
    pub(crate) first: &'static [&'static str],
    /// Steps to copy, in YAML.
    pub(crate) example: &'static str,
}

/// Inputs that belong together.
pub(crate) struct Group {
    /// Its name.
    pub(crate) name: &'static str,
    /// Its title.
    pub(crate) title: &'static str,
    /// When it is shown, in the form's language of rules.
    pub(crate) shown: Option<&'static str>,
    /// Its inputs.
    pub(crate) options: &'static [&'static str],
}

/// The forms, in the order of the walk.
pub(crate) const FORMS: [Form; 6] = [
    Form {
        task: "ImportImages",
        id: "4966df58-e9ca-4b10-b54a-ec8938ca575c",
        test_id: "1ae6e3e0-2de3-4a42-bad3-840b133683a9",
        title: "Mynah: import images",
        step_name: "Import images from $(source)",
        category: "Utility",
        connection: "AzureRM",
        labels: &[
            ("source", "Photos"),
            ("connection", "Azure subscription"),
            ("out", "Dataset folder"),
            ("trained", "Dataset of the last model"),
        ],
        shown: &[("connection", "source StartsWith https://")],
        help: &[(
            "connection",
            "The service connection (Azure Resource Manager) that may read the container of Blob Storage: its \
             identity needs the role Storage Blob Data Reader.",
        )],
        groups: &[],
        first: &["connection"],
        example: "\
steps:
  - task: ImportImages@0
    name: import
    displayName: Import images
    inputs:
      source: photos
      out: $(Pipeline.Workspace)/dataset

  - script: echo \"$(import.photos) photos of $(import.labels) labels\"
    displayName: What was imported
",
    },
    Form {
        task: "TrainModel",
        id: "f9b4b6b8-2926-42d6-9011-39d23d9d09cd",
        test_id: "61f963f7-fdec-4e33-9639-858e1d70521a",
        title: "Mynah: train model",
        step_name: "Train on $(dataset)",
        category: "Build",
        connection: "AzureRM",
        labels: &[
            ("dataset", "Dataset folder"),
            ("out", "Training folder"),
            ("minAccuracy", "Least accuracy"),
            ("connection", "Azure subscription"),
            ("holdout", "Photos kept apart"),
        ],
        shown: &[],
        help: &[],
        groups: &[],
        first: &["trainer", "minAccuracy"],
        example: "\
steps:
  - task: TrainModel@0
    name: train
    displayName: Train
    inputs:
      dataset: $(Pipeline.Workspace)/dataset
      out: $(Pipeline.Workspace)/training
      minAccuracy: 0.9

  - publish: $(Pipeline.Workspace)/training
    artifact: training
    displayName: Keep the training and its report
",
    },
    Form {
        task: "ExportModel",
        id: "33162466-d245-403a-9747-19de35272e70",
        test_id: "72908a7c-ce0d-4357-8962-0f2630ab723f",
        title: "Mynah: export model",
        step_name: "Export $(training)",
        category: "Build",
        connection: "AzureRM",
        labels: &[
            ("training", "Training folder"),
            ("out", "Model folder"),
            ("dataset", "Dataset to check the model on"),
            ("connection", "Azure subscription"),
        ],
        shown: &[],
        help: &[],
        groups: &[],
        first: &["dataset"],
        example: "\
steps:
  - task: ExportModel@0
    name: export
    displayName: Export
    inputs:
      training: $(Pipeline.Workspace)/training
      dataset: $(Pipeline.Workspace)/dataset
      out: $(Pipeline.Workspace)/model

  - publish: $(Pipeline.Workspace)/model
    artifact: model
    displayName: Keep the model
",
    },
    Form {
        task: "BuildModules",
        id: "ed97744c-c36b-4e01-bbaf-dd5a37ddc884",
        test_id: "a559c8ca-0983-45b7-b0de-36d69c16177e",
        title: "Mynah: build modules",
        step_name: "Build modules with $(model)",
        category: "Build",
        connection: "dockerregistry",
        labels: &[
            ("model", "Model folder"),
            ("modules", "Folder of further modules"),
            ("platform", "Platforms"),
            ("base", "Base image"),
            ("out", "Images folder"),
            ("runtime", "Runtime program"),
            ("clips", "Recordings"),
            ("connection", "Registry"),
        ],
        shown: &[],
        help: &[],
        groups: &[Group {
            name: "speech",
            title: "What the device says",
            shown: None,
            options: &["speechMap", "voice", "clips", "azureSpeech"],
        }],
        first: &["model", "modules", "platform", "repository"],
        example: "\
steps:
  - task: BuildModules@0
    name: build
    displayName: Build modules
    inputs:
      model: $(Pipeline.Workspace)/model
      out: $(Pipeline.Workspace)/images
      platform: linux/arm64
      runtime: runtime
    env:
      SPEECH_KEY: $(speechKey)

  - publish: $(Pipeline.Workspace)/images
    artifact: images
    displayName: Keep the images
",
    },
    Form {
        task: "GenerateManifest",
        id: "f39816e1-4e88-4297-8bbb-15ccc4653884",
        test_id: "156b4234-9e63-455a-8585-671a23ea89f5",
        title: "Mynah: generate manifest",
        step_name: "Write $(out)",
        category: "Build",
        connection: "AzureRM",
        labels: &[
            ("out", "Manifest"),
            ("images", "Images folder"),
            ("env", "Files of variables"),
            ("overlay", "Overlays"),
            ("allow", "Findings to pass over"),
            ("devices", "Access to cameras and sound"),
            ("deviceResource", "Resources for devices"),
        ],
        shown: &[],
        help: &[],
        groups: &[Group {
            name: "kubernetes",
            title: "Kubernetes",
            shown: Some("format = kubernetes"),
            options: &["namespace", "nodeLabel", "devices", "deviceResource", "probe"],
        }],
        first: &["template", "images", "platform", "format"],
        example: "\
steps:
  - task: GenerateManifest@0
    name: manifest
    displayName: Generate manifest
    inputs:
      template: deployment.template.json
      images: $(Pipeline.Workspace)/images
      platform: linux/arm64
      out: $(Pipeline.Workspace)/deployment/deployment.json

  - publish: $(Pipeline.Workspace)/deployment
    artifact: deployment
    displayName: Keep the manifest
",
    },
    Form {
        task: "DeployModules",
        id: "bcdd39ff-7485-4312-b38d-fdcdd301cf60",
        test_id: "dfc6e277-7056-4843-a746-cd4ea6a544c8",
        title: "Mynah: deploy modules",
        step_name: "Deploy $(manifest) to $(target)",
        category: "Deploy",
        connection: "AzureRM",
        labels: &[
            ("out", "Record folder"),
            ("connection", "Azure subscription"),
            ("hub", "IoT Hub"),
            ("registryConnection", "Registry the devices pull from"),
            ("merge", "Keep other modules"),
            ("replace", "Remove other modules"),
            ("deployment", "Name of the automatic deployment"),
            ("clusterConnection", "Kubernetes service connection"),
            ("canary", "Label of the nodes that run it first"),
            ("force", "Take over fields of others"),
        ],
        shown: &[],
        help: &[(
            "connection",
            "The service connection (Azure Resource Manager) that signs in to the hub: its identity needs the role \
             IoT Hub Data Contributor. Without it: the connection string in the variable IOTHUB_CONNECTION_STRING, \
             mapped from a secret under `env`.",
        )],
        groups: &[
            Group {
                name: "hub",
                title: "IoT Hub",
                shown: Some("target = iot-hub"),
                options: &[
                    "connection",
                    "hub",
                    "device",
                    "targetCondition",
                    "deployment",
                    "priority",
                    "merge",
                    "replace",
                    "registryConnection",
                ],
            },
            Group {
                name: "cluster",
                title: "Kubernetes",
                shown: Some("target = kubernetes"),
                options: &["clusterConnection", "kubeconfig", "context", "canary", "force"],
            },
            Group {
                name: "local",
                title: "This machine",
                shown: Some("target = local"),
                options: &["images", "frames", "hold"],
            },
        ],
        first: &["target", "wait"],
        example: "\
steps:
  - task: DeployModules@0
    name: deploy
    displayName: Deploy to the hall
    inputs:
      manifest: $(Pipeline.Workspace)/deployment/deployment.json
      target: iot-hub
      connection: edge-subscription
      hub: mynah
      targetCondition: tags.room = 'hall'
      wait: 20m
      out: $(Pipeline.Workspace)/record
",
    },
];
