//! Addresses that something is fetched from, without what may let one in.

/// The scheme, host, port and path of an address, or `host:path` as ssh has it, perhaps with a plain user;
/// nothing of one that is neither. `https://user:token@host/path?key=x#y` is `https://host/path`.
///
/// A password may contain `/`, `@`, `?` and `#`, so that all up to the last `@` is cut off, unless the address
/// clearly begins with its host.
pub(super) fn without_credentials(url: &str) -> Option<String> {
    let is_plain = |text: &str, others: &str| {
        let is_fine = |c: char| c.is_ascii_alphanumeric() || others.contains(c);
        text.starts_with(|c: char| c.is_ascii_alphanumeric()) && text.chars().all(is_fine)
    };
    if url.contains(|c: char| c.is_control() || c.is_whitespace() || c == '\\') {
        return None;
    }
    let Some((scheme, rest)) = url.split_once("://") else {
        let (place, path) = url.split_once(':')?;
        let path = cut(path);
        let host = match place.split_once('@') {
            // A user's name has no more (useradd(8)); tokens have.
            Some((user, host)) => (user.len() <= 32 && is_plain(user, "._-")).then_some(host)?,
            None => place,
        };
        let is_path = !path.is_empty() && !path.contains([':', '@']);
        return (is_plain(host, ".-_") && is_path).then(|| format!("{place}:{path}"));
    };
    let begin = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let is_host = |authority: &str| match authority.rsplit_once(':') {
        Some((_, port)) if !port.ends_with(']') => {
            !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit())
        }
        _ => !authority.is_empty(),
    };
    let clearly = !rest[..begin].contains('@') && (is_host(&rest[..begin]) || scheme == "file");
    let address = match rest.rsplit_once('@') {
        // What a query or a fragment has would be taken for the host.
        Some((before, _)) if !clearly && before.contains(['?', '#']) => return None,
        Some((_, address)) if !clearly => address,
        _ => rest,
    };
    let address = cut(address);
    let authority = address.split('/').next().unwrap_or_default();
    let is_right = match scheme {
        "file" => authority.is_empty() || is_host(authority),
        _ => is_plain(scheme, "+.-") && is_host(authority),
    };
    is_right.then(|| format!("{scheme}://{address}"))
}

/// An address up to its query and its fragment.
fn cut(address: &str) -> &str {
    address.split(['?', '#']).next().unwrap_or(address)
}

/// The address that something is fetched from, without what may let one in: credentials, a query and a
/// fragment. Of one that is not understood, no more than the scheme is shown.
#[must_use]
pub fn shown_address(url: &str) -> String {
    match without_credentials(url) {
        Some(address) => address,
        None if !url.contains('@') && url.contains("://") => cut(url).to_owned(),
        None => match url.split_once("://") {
            Some((scheme, _)) if !scheme.contains(['@', ':', '/']) => format!("{scheme}://…"),
            _ => "…".to_owned(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::{shown_address, without_credentials};

    #[test]
    fn an_origin_has_no_credentials() {
        for (url, expected) in [
            ("https://u:p@h.example/r.git", "https://h.example/r.git"),
            ("https://u:p/q@h.example/r.git", "https://h.example/r.git"),
            ("https://u:p@q/r@h.example/r", "https://h.example/r"),
            ("https://t@h.example/r", "https://h.example/r"),
            ("https://h.example:80/r@x", "https://h.example:80/r@x"),
            ("https://h.example/r@x", "https://h.example/r@x"),
            ("https://h.example/r?private_token=X", "https://h.example/r"),
            ("https://h.example/r.git#X", "https://h.example/r.git"),
            ("https://h.example?a=X@b", "https://h.example"),
            ("https://https://u:X@h.example/r", "https://h.example/r"),
            ("ssh://git@h.example:22/r", "ssh://h.example:22/r"),
            ("https://[::1]:80/r", "https://[::1]:80/r"),
            ("https://[::1]/r", "https://[::1]/r"),
            ("file:///srv/r.git", "file:///srv/r.git"),
            ("git@h.example:r.git", "git@h.example:r.git"),
            ("git@h.example:r.git?t=X", "git@h.example:r.git"),
            ("h.example:a/r.git", "h.example:a/r.git"),
        ] {
            assert_eq!(without_credentials(url).as_deref(), Some(expected), "{url}");
        }
        for url in [
            "https:/u:X@h.example/r",
            "https:///u:X@h.example/r?@",
            "https://u:X#Y@h.example/r",
            "https://u:X?Y@h.example/r",
            "https://u@h.example/r?a=X@b",
            "oauth2:X@h.example:g/r.git",
            "oauth2:X@h.example/r.git",
            "glpat-XXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXX@h.example:g/r.git",
            "ext::sh -c X",
            "ext::https://u:X@h.example/r",
            "u:X@https://h.example/r",
            "../elsewhere",
            "",
        ] {
            let found = without_credentials(url);
            assert!(
                found.as_ref().is_none_or(|it| !it.contains('X')),
                "{url}: {found:?}"
            );
            assert!(!shown_address(url).contains('X'), "{url}");
        }
    }

    #[test]
    fn an_address_is_shown_without_its_query() {
        for (url, expected) in [
            ("https://u:p@h.example/f?signature=x", "https://h.example/f"),
            ("http://h.example/f#x", "http://h.example/f"),
            ("https://${HOST}/f", "https://${HOST}/f"),
            (
                "https://h.example:${PORT}/f?x",
                "https://h.example:${PORT}/f",
            ),
        ] {
            assert_eq!(shown_address(url), expected);
        }
    }
}
