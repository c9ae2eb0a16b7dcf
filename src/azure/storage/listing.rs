//! A page of a container's listing (Azure Storage REST, "List Blobs").

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::percent_decode_str;
use roxmltree::{Document, Node};

/// A page.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Page {
    /// The blobs, in order of their names.
    pub blobs: Vec<Blob>,
    /// Where the next page begins; none after the last.
    pub next: Option<String>,
}

/// A blob, as the listing tells it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Blob {
    /// Its name within the container.
    pub name: String,
    /// The version of its content.
    pub etag: String,
    /// Its size in bytes.
    pub bytes: u64,
    /// The MD5 of its content, where whoever wrote it had one stored.
    pub md5: Option<[u8; 16]>,
    /// What it is.
    pub kind: BlobKind,
}

/// What a blob is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BlobKind {
    /// A file.
    File,
    /// What stands for a folder in accounts with folders, and where tools pretend that there are some.
    Folder,
    /// A file in the archive, which takes hours to come back.
    Archived,
}

/// Reads a page. None where the text is no listing.
pub(super) fn read(xml: &str) -> Option<Page> {
    // The service begins with a byte order mark.
    let document = Document::parse(xml.trim_start_matches('\u{feff}')).ok()?;
    let root = document.root_element();
    if root.tag_name().name() != "EnumerationResults" {
        return None;
    }
    let blobs = child(root, "Blobs")?
        .children()
        .filter(|node| node.has_tag_name("Blob"))
        .map(blob)
        .collect::<Option<Vec<_>>>()?;
    let next = text(root, "NextMarker").filter(|marker| !marker.is_empty()).map(str::to_owned);
    Some(Page { blobs, next })
}

fn blob(node: Node<'_, '_>) -> Option<Blob> {
    let name = child(node, "Name")?;
    let raw = name.text().unwrap_or_default();
    // A name that XML cannot hold comes percent-encoded (since version 2021-02-12).
    let name = if name.attribute("Encoded") == Some("true") {
        percent_decode_str(raw).decode_utf8().ok()?.into_owned()
    } else {
        raw.to_owned()
    };
    let properties = child(node, "Properties")?;
    let property = |name| text(properties, name).unwrap_or_default();
    let marked = child(node, "Metadata").is_some_and(|metadata| {
        metadata.children().any(|entry| {
            entry.tag_name().name().eq_ignore_ascii_case("hdi_isfolder") && entry.text() == Some("true")
        })
    });
    let bytes: u64 = property("Content-Length").parse().ok()?;
    let kind = if property("ResourceType") == "directory" || name.ends_with('/') || (marked && bytes == 0) {
        BlobKind::Folder
    } else if property("AccessTier") == "Archive" {
        BlobKind::Archived
    } else {
        BlobKind::File
    };
    let md5 = STANDARD.decode(property("Content-MD5")).ok().and_then(|bytes| bytes.try_into().ok());
    // The listing writes it bare, headers quote it.
    let etag = property("Etag").trim_matches('"').to_owned();
    (!name.is_empty() && !etag.is_empty()).then_some(Blob { name, etag, bytes, md5, kind })
}

fn child<'a, 'b>(node: Node<'a, 'b>, name: &str) -> Option<Node<'a, 'b>> {
    node.children().find(|child| child.has_tag_name(name))
}

fn text<'a>(node: Node<'a, '_>, name: &str) -> Option<&'a str> {
    child(node, name)?.text()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn listing(blobs: &str, marker: &str) -> String {
        format!(
            "\u{feff}<?xml version=\"1.0\" encoding=\"utf-8\"?><EnumerationResults ContainerName=\"c\"><Prefix>p/</Prefix>\
             <Blobs>{blobs}</Blobs><NextMarker>{marker}</NextMarker></EnumerationResults>"
        )
    }

    fn entry(name: &str, more: &str, metadata: &str) -> String {
        format!(
            "<Blob>{name}<Properties><Etag>\"0x1\"</Etag><Content-Length>0</Content-Length>{more}</Properties>\
             <Metadata>{metadata}</Metadata></Blob>"
        )
    }

    #[test]
    fn names_kinds_and_digests_are_read() {
        let blobs = [
            entry(
                "<Name>a &amp; b/ü ##vso[x].jpg</Name>",
                "<Content-MD5>1B2M2Y8AsgTpgAmY7PhCfg==</Content-MD5>",
                "",
            ),
            entry("<Name Encoded=\"true\">a%FF%FEb</Name>", "", ""),
        ];
        assert_eq!(read(&listing(&blobs.concat(), "")), None, "a name that is no text");
        let blobs = [
            blobs[0].clone(),
            entry("<Name Encoded=\"true\">a%EF%BF%BE%2Fb</Name>", "", ""),
            entry("<Name>dir</Name>", "", "<hdi_isfolder>true</hdi_isfolder>"),
            entry("<Name>dir2</Name>", "<ResourceType>directory</ResourceType>", ""),
            entry("<Name>dir3/</Name>", "", ""),
            entry("<Name>old.jpg</Name>", "<AccessTier>Archive</AccessTier>", ""),
        ];
        let page = read(&listing(&blobs.concat(), "next!")).unwrap();
        assert_eq!(page.next.as_deref(), Some("next!"));
        let names: Vec<_> = page.blobs.iter().map(|blob| (blob.name.as_str(), blob.kind)).collect();
        assert_eq!(
            names,
            [
                ("a & b/ü ##vso[x].jpg", BlobKind::File),
                ("a\u{fffe}/b", BlobKind::File),
                ("dir", BlobKind::Folder),
                ("dir2", BlobKind::Folder),
                ("dir3/", BlobKind::Folder),
                ("old.jpg", BlobKind::Archived),
            ]
        );
        assert_eq!(page.blobs[0].etag, "0x1");
        assert_eq!(page.blobs[0].md5.unwrap()[..2], [0xd4, 0x1d]);
        assert_eq!(read(&listing("", "")).unwrap(), Page::default());
    }

    #[test]
    fn what_is_no_listing_is_none() {
        for text in ["", "{}", "<html/>", "<EnumerationResults/>", "<EnumerationResults><Blobs>"] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_name_is_read_back(name in "\\PC{1,20}") {
            let escaped = name.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
            let page = read(&listing(&entry(&format!("<Name>{escaped}</Name>"), "", ""), "")).unwrap();
            prop_assert_eq!(&page.blobs[0].name, &name);
        }

        #[test]
        fn nothing_panics(text in "(<EnumerationResults>|<Blobs>|<Blob>|<Name>|a|</Name>|</Blob>|&|</Blobs>|</EnumerationResults>){0,12}") {
            let _ = read(&text);
        }
    }
}
