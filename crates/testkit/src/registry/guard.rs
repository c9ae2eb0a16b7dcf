//! Who may come in: nobody asked, a user with a password, or a bearer of a token.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;

/// How the registry is protected.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Guard {
    /// Not at all.
    Open,
    /// Basic authentication.
    Basic {
        /// The user.
        user: String,
        /// The password.
        password: String,
    },
    /// A token service at `/token`, which wants basic authentication, or lets anyone pull where
    /// `anonymous_pull`.
    Bearer {
        /// The user.
        user: String,
        /// The password.
        password: String,
        /// Whether tokens for pulling are given to anyone.
        anonymous_pull: bool,
    },
    /// As Azure Container Registry: a Microsoft Entra token is exchanged for a refresh token, that for an
    /// access token.
    Entra {
        /// The Entra token that is accepted.
        token: String,
    },
}

impl Guard {
    /// Basic authentication for `user`.
    pub fn basic(user: &str, password: &str) -> Self {
        Self::Basic { user: user.into(), password: password.into() }
    }

    /// The refresh token an exchange gives.
    pub(super) const REFRESH: &'static str = "refresh-token-of-the-registry";

    pub(super) fn basic_header(user: &str, password: &str) -> String {
        format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}")))
    }
}

/// Repository and action (`pull`, `push`).
pub(super) type Grant = (String, String);

/// Tokens that were given out, and what they allow.
#[derive(Default)]
pub(super) struct Tokens {
    given: BTreeMap<String, BTreeSet<Grant>>,
    last: u64,
}

impl Tokens {
    /// A token for `scope`: `repository:<name>:pull,push`, several divided by spaces.
    pub(super) fn give(&mut self, scope: &str, pull_only: bool) -> String {
        self.last += 1;
        let token = format!("access-token-{}-{}", self.last, scope.len());
        let grants = scope.split(' ').filter_map(|one| {
            let (name, actions) = one.strip_prefix("repository:")?.rsplit_once(':')?;
            Some(actions.split(',').map(|action| (name.to_owned(), action.to_owned())).collect::<Vec<_>>())
        });
        let grants = grants.flatten().filter(|(_, action)| !pull_only || action == "pull").collect();
        self.given.insert(token.clone(), grants);
        token
    }

    /// Whether the header's token was given out.
    pub(super) fn know(&self, authorization: Option<&str>) -> bool {
        self.grants(authorization).is_some()
    }

    /// Whether the header's token allows this.
    pub(super) fn allow(&self, authorization: Option<&str>, grant: &Grant) -> bool {
        self.grants(authorization).is_some_and(|grants| grants.contains(grant))
    }

    fn grants(&self, authorization: Option<&str>) -> Option<&BTreeSet<Grant>> {
        self.given.get(authorization?.strip_prefix("Bearer ")?)
    }
}
