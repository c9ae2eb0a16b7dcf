//! What of a URL and of a service's words may be shown.

use reqwest::Url;

/// Query parameters whose values are no secret in any of the interfaces we use. What is not listed is struck out:
/// a signature under a name nobody thought of must not be shown.
const HARMLESS: &[&str] = &[
    "api-version",
    "comp",
    "delimiter",
    "digest",
    "flavor",
    "from",
    "include",
    "iterationid",
    "last",
    "marker",
    "maxresults",
    "mount",
    "n",
    "name",
    "orderby",
    "platform",
    "prefix",
    "resource",
    "restype",
    "scope",
    "se",
    "service",
    "serviceconnectionid",
    "skip",
    "sp",
    "sr",
    "st",
    "sv",
    "tagids",
    "taggingstatus",
    "take",
    "top",
];

/// The longest part of a service's message that is shown, in characters.
const SHOWN: usize = 400;

/// The URL without its user, fragment and whatever in its query could be a secret.
pub fn shown_url(url: &Url) -> String {
    let mut shown = url.clone();
    // Both fail only for URLs that have no host, and so no user.
    let _ = shown.set_username("");
    let _ = shown.set_password(None);
    shown.set_fragment(None);
    shown.set_query(None);
    let mut text = shown.to_string();
    let mut separator = '?';
    for (name, value) in url.query_pairs() {
        let harmless = HARMLESS.contains(&name.to_ascii_lowercase().as_str());
        text.push(separator);
        text.push_str(&clean(&name));
        text.push('=');
        text.push_str(if harmless { &value } else { "***" });
        separator = '&';
    }
    clean(&text)
}

/// A service's words, made one line of bounded length without control characters.
pub(crate) fn clean(text: &str) -> String {
    let one_line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let words: Vec<&str> = one_line.split_whitespace().collect();
    let joined = words.join(" ");
    match joined.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", joined.get(..end).unwrap_or_default()),
        None => joined,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn signatures_users_and_unknown_parameters_are_struck_out() {
        let url = Url::parse(
            "https://me:pw@a.example/c/x%20y.jpg?comp=list&sig=aB%2F%3D&SIG=z&custom=1&prefix=cat%2F#frag",
        )
        .unwrap();
        assert_eq!(
            shown_url(&url),
            "https://a.example/c/x%20y.jpg?comp=list&sig=***&SIG=***&custom=***&prefix=cat/"
        );
    }

    #[test]
    fn words_become_one_bounded_line() {
        assert_eq!(clean("no\r\n##vso[x]\u{1b}[31m"), "no ##vso[x] [31m");
        assert_eq!(clean(&"é".repeat(1000)).chars().count(), SHOWN + 1);
    }

    proptest! {
        #[test]
        fn a_signature_is_never_shown(sig in "[A-Za-z0-9+/=]{8,44}", name in "sig|Signature|code|key|se2|token") {
            let mut url = Url::parse("https://a.example/p").unwrap();
            url.query_pairs_mut().append_pair("comp", "list").append_pair(&name, &sig);
            let shown = shown_url(&url);
            prop_assert!(!shown.contains(&sig), "{shown}");
        }
    }
}
