//! Templates and expressions, as the service expands them.

use super::*;
use proptest::prelude::*;

fn expanded(files: &[(&str, &str)], parameters: &[(&str, &str)]) -> Result<Node, String> {
    let read = |path: &Path| {
        let file = files.iter().find(|(name, _)| Path::new(name) == path);
        file.map(|(_, text)| (*text).to_owned()).ok_or_else(|| "no such file".to_owned())
    };
    let parameters: Vec<_> =
        parameters.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Expander::new(Path::new(""), &read)
        .pipeline(Path::new(files[0].0), &parameters, &[("Build.Reason".into(), "Manual".into())])
        .map(|expanded| expanded.node)
        .map_err(|findings| findings.iter().map(ToString::to_string).collect())
}

/// What a node holds, written short.
fn shown(node: &Node) -> String {
    value_of(node).to_json().split_whitespace().collect::<Vec<_>>().join(" ").replace('"', "")
}

#[test]
fn conditions_choose_and_loops_repeat() {
    let text = "parameters:\n- {name: on, type: boolean, default: false}\n- {name: all, type: object, default: [a, b]}\n\
        steps:\n- ${{ if parameters.on }}:\n  - script: one\n- ${{ elseif eq(variables['x'], '1') }}:\n  - script: two\n\
        - ${{ else }}:\n  - script: three\n- ${{ each n in parameters.all }}:\n  - script: say ${{ n }}${{ n }}\n    ${{ if eq(n, 'a') }}:\n      name: first\nvariables: {x: 1}\n";
    let node = expanded(&[("p.yml", text)], &[]).unwrap();
    assert_eq!(
        shown(node.get("steps").unwrap()),
        "[ { script: two }, { script: say aa, name: first }, { script: say bb } ]"
    );
    let node = expanded(&[("p.yml", text)], &[("on", "true"), ("all", "[c]")]).unwrap();
    assert_eq!(shown(node.get("steps").unwrap()), "[ { script: one }, { script: say cc } ]");
}

#[test]
fn templates_take_typed_parameters_and_give_their_lists() {
    let main =
        "steps:\n- template: t/s.yml\n  parameters: {n: 3, extra: [{script: more}], on: '${{ eq(1, 1) }}'}\n";
    let template = "parameters:\n- {name: n, type: number}\n- {name: on, type: boolean}\n- {name: extra, type: stepList, default: []}\nsteps:\n- script: n is ${{ parameters.n }} ${{ parameters.on }}\n- ${{ parameters.extra }}\n";
    let node = expanded(&[("p.yml", main), ("t/s.yml", template)], &[]).unwrap();
    assert_eq!(shown(node.get("steps").unwrap()), "[ { script: n is 3 True }, { script: more } ]");
    let step = node.get("steps").unwrap().children().next().unwrap();
    assert_eq!((step.source, step.place.line), (1, 6));
    let wrong = main.replace("n: 3", "n: three");
    assert_eq!(
        expanded(&[("p.yml", &wrong), ("t/s.yml", template)], &[]).unwrap_err(),
        "p.yml:2:3: error: the parameter `n` is no number; write a number"
    );
    let unknown = main.replace("n: 3", "n: 3, extr: 1");
    let told = expanded(&[("p.yml", &unknown), ("t/s.yml", template)], &[]).unwrap_err();
    assert!(told.contains("there is no parameter `extr`; was `extra` meant?"), "{told}");
}

#[test]
fn extends_takes_the_template_for_the_pipeline() {
    let main = "extends:\n  template: t.yml\n  parameters: {who: me}\nvariables: {a: b}\n";
    let template = "parameters: [{name: who}]\njobs:\n- job: j\n  steps:\n  - script: ${{ parameters.who }} ${{ variables.a }} ${{ variables['Build.Reason'] }}\n";
    let node = expanded(&[("p.yml", main), ("t.yml", template)], &[]).unwrap();
    assert!(shown(node.get("jobs").unwrap()).contains("script: me b Manual"));
}

#[test]
fn mistakes_are_told_with_their_line() {
    let told =
        |text: &str, parameters: &[(&str, &str)]| expanded(&[("p.yml", text)], parameters).unwrap_err();
    assert!(
        told("steps:\n- script: ${{ nothing }}\n", &[])
            .starts_with("p.yml:2:11: error: nothing is named `nothing`")
    );
    assert!(told("steps:\n- script: ${{ eq(1 }}\n", &[]).contains("not well-formed"));
    assert!(
        told("steps:\n- template: gone.yml\n", &[])
            .contains("p.yml:2:13: error: cannot read the template `gone.yml`")
    );
    assert!(told("steps:\n- template: a.yml@other\n", &[]).contains("in another repository"));
    assert!(told("steps:\n- template: p.yml\n", &[]).contains("without end"));
    assert!(told("steps:\n- ${{ else }}:\n  - script: a\n", &[]).contains("follows no `if`"));
    assert!(told("parameters: [{name: a}]\nsteps: []\n", &[]).contains("the parameter `a` has no value"));
    assert!(
        told("parameters: [{name: a, values: [b, c]}]\nsteps: []\n", &[("a", "d")])
            .contains("the parameter `a` is `d`; one of b, c is expected")
    );
    assert!(told("steps:\n- script: a ${{ b\n", &[]).contains("does not end"));
}

proptest! {
    #[test]
    fn nothing_panics(text in "[$a-z{}'()\\[\\] é:-]{0,40}") {
        let _ = expanded(&[("p.yml", &format!("steps:\n- script: {text}\n"))], &[]);
        let _ = only_expression(&text);
    }
}
