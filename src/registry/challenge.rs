//! What a registry asks for with a 401: the `WWW-Authenticate` header (RFC 9110 §11.6.1).

/// How a registry wants to be told who asks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Challenge {
    /// User and password with every request.
    Basic,
    /// A token of the service at `realm` (distribution token specification).
    Bearer {
        /// The token service.
        realm: String,
        /// Whom the token is for.
        service: Option<String>,
    },
}

impl Challenge {
    /// The challenge of these headers that we can answer; a bearer token is preferred.
    pub(crate) fn choose<'a>(headers: impl IntoIterator<Item = &'a str>) -> Option<Self> {
        let mut known: Vec<Self> = headers.into_iter().flat_map(parse).filter_map(Self::from_parts).collect();
        let bearer = known.iter().position(|challenge| matches!(challenge, Self::Bearer { .. }));
        match bearer {
            Some(at) => Some(known.swap_remove(at)),
            None => known.pop(),
        }
    }

    fn from_parts(parts: Parts) -> Option<Self> {
        let mut parameters = parts.parameters;
        let mut take = |name: &str| {
            let at = parameters.iter().position(|(key, _)| key.eq_ignore_ascii_case(name))?;
            Some(parameters.swap_remove(at).1)
        };
        if parts.scheme.eq_ignore_ascii_case("basic") {
            return Some(Self::Basic);
        }
        if !parts.scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        // Its scope is what the refused request needs; we ask for all that the push will need.
        Some(Self::Bearer { realm: take("realm")?, service: take("service") })
    }
}

/// A scheme and its parameters.
struct Parts {
    scheme: String,
    parameters: Vec<(String, String)>,
}

/// The challenges of one header. Commas divide both challenges and parameters, and stand inside quotes too:
/// a token is a scheme unless `=` follows it. What comes after a mistake is left out.
fn parse(header: &str) -> Vec<Parts> {
    let mut found: Vec<Parts> = Vec::new();
    let mut rest = header.trim_start_matches([' ', '\t', ',']);
    while let Some((token, after)) = token(rest) {
        let after = after.trim_start_matches([' ', '\t']);
        match (after.strip_prefix('='), found.last_mut()) {
            (Some(value), Some(challenge)) => {
                let Some((value, after)) = value_of(value.trim_start_matches([' ', '\t'])) else { break };
                challenge.parameters.push((token.to_owned(), value));
                rest = after;
            }
            (Some(_), None) => break,
            (None, _) => {
                found.push(Parts { scheme: token.to_owned(), parameters: Vec::new() });
                rest = after;
            }
        }
        rest = rest.trim_start_matches([' ', '\t', ',']);
    }
    found
}

/// A token (RFC 9110 §5.6.2) at the start, and what follows it.
fn token(text: &str) -> Option<(&str, &str)> {
    let is_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    let end = text.find(|c| !is_token(c)).unwrap_or(text.len());
    (end > 0).then(|| text.split_at(end))
}

/// A parameter's value, quoted or not, and what follows it.
fn value_of(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        // Servers write addresses without quotes too.
        let end = text.find([',', ' ', '\t']).unwrap_or(text.len());
        let (value, after) = text.split_at(end);
        return Some((value.to_owned(), after));
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, c)) = characters.next() {
        match c {
            '"' => return Some((value, quoted.get(at + 1..).unwrap_or_default())),
            '\\' => value.push(characters.next()?.1),
            c => value.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bearer(realm: &str, service: Option<&str>) -> Challenge {
        Challenge::Bearer { realm: realm.into(), service: service.map(Into::into) }
    }

    #[test]
    fn a_comma_inside_quotes_divides_nothing() {
        let header = r#"Bearer realm="https://r.example/oauth2/token",scope="repository:a/b:pull,push",service="r.example""#;
        let expected = bearer("https://r.example/oauth2/token", Some("r.example"));
        assert_eq!(Challenge::choose([header]), Some(expected));
    }

    #[test]
    fn a_bearer_token_is_preferred_wherever_it_stands() {
        let both = r#"Basic realm="x, y", Bearer realm=https://r/token , error="insufficient_scope""#;
        assert_eq!(Challenge::choose([both]), Some(bearer("https://r/token", None)));
        assert_eq!(Challenge::choose(["Negotiate", "Basic realm=x"]), Some(Challenge::Basic));
        assert_eq!(Challenge::choose(["basic"]), Some(Challenge::Basic));
    }

    #[test]
    fn what_we_cannot_answer_is_none() {
        for header in ["", "Negotiate YII=", "Bearer service=\"x\"", "Bearer realm=\"cut", "=,=", "realm=x"] {
            assert_eq!(Challenge::choose([header]), None, "{header}");
        }
    }

    proptest! {
        #[test]
        fn quoting_carries_any_text(realm in "[ -~é]{1,40}", service in "[ -~]{0,40}") {
            let quote = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"");
            let header = format!(r#"Bearer realm="{}",service="{}""#, quote(&realm), quote(&service));
            prop_assert_eq!(Challenge::choose([header.as_str()]), Some(bearer(&realm, Some(&service))));
        }

        #[test]
        fn no_header_is_too_strange(header in "\\PC{0,80}") {
            let _ = Challenge::choose([header.as_str()]);
        }
    }
}
