//! What looks like a secret in clear: by the name it goes under, by its own form.

/// Words at which a name's value is a secret. Compared without case, `_`, `-` and `.`.
const WORDS: [&str; 12] = [
    "password",
    "passwd",
    "pwd",
    "secret",
    "token",
    "apikey",
    "accesskey",
    "accountkey",
    "privatekey",
    "connectionstring",
    "sharedaccesskey",
    "serviceskey",
];

/// Why `value`, which stands under `name`, looks like a secret; nothing where it does not.
pub(crate) fn reason(name: &str, value: &str) -> Option<&'static str> {
    let value = value.trim();
    by_form(value).or_else(|| (by_name(name) && is_material(value)).then_some("its name says it is secret"))
}

/// Why `value` alone looks like a secret.
pub(super) fn by_form(value: &str) -> Option<&'static str> {
    let lower = value.to_ascii_lowercase();
    let assigned = |key: &str| lower.split(key).skip(1).any(|rest| rest.chars().next().is_some_and(is_word));
    if lower.contains("-----begin ") && lower.contains("private key-----") {
        Some("it is a private key")
    } else if assigned("sharedaccesskey=") || assigned("accountkey=") {
        Some("it is a connection string with its key")
    } else if (lower.contains("sharedaccesssignature") || lower.contains("sv=") || lower.contains("se="))
        && assigned("sig=")
    {
        Some("it is a shared access signature")
    } else if assigned("password=") || assigned("pwd=") {
        Some("it holds a password")
    } else if has_url_password(&lower) {
        Some("it is an address with a password")
    } else if is_key(value) {
        Some("it has the form of a key")
    } else {
        None
    }
}

fn is_word(c: char) -> bool {
    !c.is_whitespace() && !matches!(c, ';' | '&' | '"' | '\'' | '$' | '<' | '{')
}

/// Whether a name promises a secret: it ends in one of the words, or in `_KEY`. `…_FILE` and `…_PATH` name places.
fn by_name(name: &str) -> bool {
    let plain: String =
        name.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_ascii_lowercase();
    let upper = name.to_ascii_uppercase();
    WORDS.iter().any(|word| plain.ends_with(word)) || upper.ends_with("_KEY") || upper.ends_with("SASKEY")
}

/// Whether a value can be a secret at all: neither nothing nor a place nor a switch.
fn is_material(value: &str) -> bool {
    !(value.is_empty()
        || value.starts_with('/')
        || value.parse::<f64>().is_ok()
        || ["true", "false", "none", "null"].iter().any(|word| value.eq_ignore_ascii_case(word)))
}

/// `scheme://user:password@host`.
fn has_url_password(text: &str) -> bool {
    text.split("://").skip(1).any(|rest| {
        let authority = rest.split(['/', '?', '#', ' ', '"']).next().unwrap_or(rest);
        authority
            .rsplit_once('@')
            .and_then(|(user, _)| user.split_once(':'))
            .is_some_and(|(_, password)| password.starts_with(is_word))
    })
}

/// 32 hexadecimal digits, as the keys of cognitive services are, or 44 or 88 characters of Base64 that end in `=`, as
/// those of hubs and storage accounts are.
fn is_key(value: &str) -> bool {
    let hex = value.len() == 32 && value.bytes().all(|b| b.is_ascii_hexdigit());
    // Digits alone are a number.
    let hex =
        hex && value.bytes().any(|b| b.is_ascii_alphabetic()) && value.bytes().any(|b| b.is_ascii_digit());
    let base64 = matches!(value.len(), 44 | 88)
        && value.ends_with('=')
        && value.trim_end_matches('=').bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/'));
    hex || base64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn secrets_are_seen() {
        let base64 = format!("{}=", "aB3+".repeat(11).trim_end_matches('+'));
        for (name, value) in [
            ("DB_PASSWORD", "hunter2"),
            ("azureSpeechServicesKey", "abc"),
            ("IoTHubConnectionString", "x"),
            ("A", "HostName=h;SharedAccessKeyName=n;SharedAccessKey=abc="),
            ("A", "DefaultEndpointsProtocol=https;AccountName=a;AccountKey=abc=="),
            ("A", "https://a.example/b?sv=2017-04-17&sr=b&sig=Ym%2B&se=2021"),
            ("A", "SharedAccessSignature sr=h&sig=x&se=1"),
            ("A", "0123456789abcdef0123456789abcdef"),
            ("A", base64.as_str()),
            ("A", "postgres://user:pass@host/db"),
            ("A", "-----BEGIN RSA PRIVATE KEY-----\nx"),
            ("A", "Server=x;Password=y"),
        ] {
            assert!(reason(name, value).is_some(), "{name}={value}");
        }
    }

    #[test]
    fn ordinary_settings_are_not() {
        for (name, value) in [
            ("PASSWORD_FILE", "/run/secrets/password"),
            ("DB_PASSWORD", "/run/secrets/password"),
            ("DB_PASSWORD", ""),
            ("USE_TOKEN", "false"),
            ("THRESHOLD", "0.6"),
            ("IMAGE_PROCESSING_ENDPOINT", "http://image-classifier-service:80/image"),
            ("KEYBOARD", "de"),
            ("A", "image@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"),
            ("A", "12345678901234567890123456789012"),
            ("A", "http://host:80/a@b"),
            ("A", "Password=$PASSWORD"),
        ] {
            assert_eq!(reason(name, value), None, "{name}={value}");
        }
    }

    proptest! {
        #[test]
        fn looking_is_total(name in "\\PC{0,20}", value in "\\PC{0,60}") {
            let _ = reason(&name, &value);
        }
    }
}
