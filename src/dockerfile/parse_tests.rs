//! Dockerfiles read: both forms of everything, and what people read when one is wrong.

use proptest::prelude::*;

use super::*;

fn only(text: &str) -> Instruction {
    let mut file = parse(&format!("FROM scratch\n{text}")).unwrap();
    file.stages.remove(0).instructions.remove(0).1
}

fn refused(text: &str) -> String {
    let (line, problem) = parse(text).unwrap_err();
    format!("{line}: {problem}")
}

fn strings(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

#[test]
fn stages_and_arguments() {
    let file =
        parse("ARG V=1\nFROM --platform=$BUILDPLATFORM a:$V AS Build\nfrom build\nARG V X=2\n").unwrap();
    assert_eq!(file.arguments, [(1, ("V".into(), Some("1".into())))]);
    assert_eq!(file.stages[0].platform.as_deref(), Some("$BUILDPLATFORM"));
    assert_eq!(file.stages[0].name.as_deref(), Some("build"));
    assert_eq!((file.stages[1].line, file.stages[1].base.as_str()), (3, "build"));
    let arguments = vec![("V".to_owned(), None), ("X".to_owned(), Some("2".to_owned()))];
    assert_eq!(file.stages[1].instructions, [(4, Instruction::Arg(arguments))]);
}

#[test]
fn both_forms_of_everything() {
    let exec = Command::Exec(strings(&["a", "b c"]));
    assert_eq!(only(r#"CMD ["a", "b c"]"#), Instruction::Cmd(exec.clone()));
    assert_eq!(only("cmd a $b"), Instruction::Cmd(Command::Shell("a $b".into())));
    assert_eq!(only("CMD ['a']"), Instruction::Cmd(Command::Shell("['a']".into())));
    assert_eq!(only("VOLUME /a /b"), Instruction::Volume(strings(&["/a", "/b"])));
    assert_eq!(only(r#"VOLUME ["/a"]"#), Instruction::Volume(strings(&["/a"])));
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(only("ENV a b  c"), Instruction::Env(vec![pair("a", "b  c")]));
    assert_eq!(only(r#"ENV a="b c" d=e"#), Instruction::Env(vec![pair("a", "\"b c\""), pair("d", "e")]));
    assert_eq!(
        only(r#"HEALTHCHECK --interval=5s --retries=3 CMD ["a", "b c"]"#),
        Instruction::HealthCheck(vec![pair("interval", "5s"), pair("retries", "3")], Some(exec))
    );
    assert_eq!(only("HEALTHCHECK none"), Instruction::HealthCheck(Vec::new(), None));
    let Instruction::Copy(copy) = only(r#"COPY --from=x --chown=1:2 --link ["a b", "c", "/d/"]"#) else {
        panic!("no copy");
    };
    assert_eq!((copy.from.as_deref(), copy.chown.as_deref()), (Some("x"), Some("1:2")));
    assert_eq!(copy.sources, [CopySource::Path("a b".into()), CopySource::Path("c".into())]);
    assert_eq!(copy.destination, "/d/");
    let Instruction::Copy(copy) = only("COPY a <<EOF /d/\ntext\nEOF\n") else { panic!("no copy") };
    assert!(matches!(&copy.sources[1], CopySource::Text(text) if text.content == "text\n"));
}

#[test]
fn what_people_read_when_it_is_wrong() {
    let told: Vec<String> = [
        "",
        "COPY a b",
        "FROM a AS b c",
        "FROM a AS 1",
        "FROM a AS b\nFROM a AS B",
        "FROM a\n\nCOPPY a b",
        "FROM a\nFRUMP a b",
        "FROM a\nCOPY a",
        "FROM a\nCOPY --parents a b",
        "FROM a\nCOPY --chown a b",
        "FROM a\nADD --from=b a b",
        "FROM a\nENV a",
        "FROM a\nENV =b",
        "FROM a\nCMD [1]",
        "FROM a\nSHELL sh",
        "FROM a\nHEALTHCHECK maybe",
        "FROM a\nONBUILD COPY a b",
        "FROM a\nUSER",
        "FROM a\nCOPY <<EOF b\n",
    ]
    .into_iter()
    .map(refused)
    .collect();
    insta::assert_snapshot!(told.join("\n"), @r#"
1: there is no `FROM`
1: `COPY` stands before the first `FROM`
1: `FROM` takes an image, and `AS` with a name
1: `1` cannot name a stage
2: there are two stages named `b`
3: `COPPY` is no instruction, did you mean `COPY`?
2: `FRUMP` is no instruction, did you mean `FROM`?
2: `COPY` takes at least one source and a destination
2: `--parents` of `COPY` is not supported
2: `--chown` of `COPY` needs a value: `--chown=…`
2: `ADD` has no `--from`, `COPY` has
2: `ENV` takes `name=value`
2: `ENV` has a value without a name
2: `1` in the array is no string
2: `SHELL` takes a JSON array
2: `HEALTHCHECK` takes `NONE` or `CMD` with a command
2: `ONBUILD`, which acts in images built on this one, is not supported
2: `USER` says nothing
2: the here-document `EOF` does not end
"#);
}

proptest! {
    #[test]
    fn nothing_panics(text in "(FROM a\n)?[A-Z]{0,6}[ -~\n\\\\]{0,120}") {
        let _ = parse(&text);
    }

    #[test]
    fn a_command_in_json_comes_back(words in prop::collection::vec("[^\u{0}-\u{1f}]{0,12}", 1..5)) {
        let json = serde_json::to_string(&words).unwrap();
        // An odd number of escapes at the end of a line would continue it; an array ends with `]`.
        prop_assert_eq!(only(&format!("CMD {json}")), Instruction::Cmd(Command::Exec(words)));
    }
}
