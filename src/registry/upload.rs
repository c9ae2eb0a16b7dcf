//! What a registry says of an upload in progress: where to go on, and how much it has.

use url::Url;

/// Where an upload goes on: `Location` may be absolute or relative, and the newest one counts
/// (distribution-spec, "Pushing blobs").
///
/// An address of another origin is refused: it would be sent the registry's credentials.
pub(crate) fn location(asked: &Url, header: Option<&str>) -> Option<Url> {
    let next = asked.join(header?).ok()?;
    let web = matches!(next.scheme(), "http" | "https");
    (web && next.origin() == asked.origin()).then_some(next)
}

/// The address that ends the upload: `digest` added to whatever the registry put into the query.
pub(crate) fn with_digest(location: &Url, digest: &str) -> Url {
    let mut url = location.clone();
    url.query_pairs_mut().append_pair("digest", digest);
    url
}

/// How many bytes the registry has, from its `Range` header: `0-<last>`, or `bytes=0-<last>`.
///
/// An upload without a byte cannot be told from one with a single byte: both are `0-0`. It is taken to be
/// empty; a registry that holds the byte refuses the next chunk with a 416, and the upload begins again.
pub(crate) fn received(header: Option<&str>) -> Option<u64> {
    let text = header?.trim();
    let text = text.strip_prefix("bytes=").unwrap_or(text);
    let (first, last) = text.split_once('-')?;
    let last: u64 = last.trim().parse().ok()?;
    if first.trim() != "0" {
        return None;
    }
    Some(if last == 0 { 0 } else { last.checked_add(1)? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn url(text: &str) -> Url {
        text.parse().unwrap()
    }

    #[test]
    fn a_location_may_be_relative_and_stays_with_the_registry() {
        let asked = url("https://r.example/v2/a/blobs/uploads/");
        let next = |header| location(&asked, Some(header)).map(String::from);
        assert_eq!(next("/v2/a/blobs/uploads/7?s=1").unwrap(), "https://r.example/v2/a/blobs/uploads/7?s=1");
        assert_eq!(next("7?s=1").unwrap(), "https://r.example/v2/a/blobs/uploads/7?s=1");
        assert_eq!(next("https://r.example:443/x").unwrap(), "https://r.example/x");
        for other in
            ["https://evil.example/x", "http://r.example/x", "https://r.example:444/x", "ftp://r.example/"]
        {
            assert_eq!(next(other), None, "{other}");
        }
        assert_eq!(location(&asked, None), None);
    }

    #[test]
    fn the_digest_joins_the_query() {
        let end = |text| with_digest(&url(text), "sha256:ab").to_string();
        assert_eq!(end("https://r/u/7?_state=a%2Bb"), "https://r/u/7?_state=a%2Bb&digest=sha256%3Aab");
        assert_eq!(end("https://r/u/7"), "https://r/u/7?digest=sha256%3Aab");
    }

    #[test]
    fn what_was_received_is_read_in_both_spellings() {
        assert_eq!(received(Some("0-99")), Some(100));
        assert_eq!(received(Some("bytes=0-99")), Some(100));
        assert_eq!(received(Some("0-0")), Some(0));
        for bad in ["", "5-9", "0-", "-1", "0-x", "0-18446744073709551615"] {
            assert_eq!(received(Some(bad)), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn a_received_count_is_never_more_than_stated(last in 1_u64..u64::MAX) {
            prop_assert_eq!(received(Some(&format!("0-{last}"))), Some(last + 1));
        }
    }
}
