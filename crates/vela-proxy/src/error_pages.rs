use std::collections::BTreeMap;
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::OFlags;

use crate::page_template::PageTemplate;

/// Pages to answer with instead of the proxy's own short texts.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct ErrorPages {
    pages: BTreeMap<Name, Arc<PageTemplate>>,
}

/// What a page is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Name {
    Status(u16),
    /// All statuses with this first digit.
    Class(u16),
    Maintenance,
}

impl ErrorPages {
    /// The longest page in bytes.
    pub const MAX_BYTES: u64 = 256 * 1024;
    /// The most pages in a directory.
    pub const MAX_PAGES: usize = 64;

    /// Reads the pages of a directory: `404.html` for a status, `4xx.html` and `5xx.html` for the
    /// others of their kind, `maintenance.html` for a route in [`Maintenance`](crate::Maintenance),
    /// which is answered with `503.html` or `5xx.html` without it. Other files are passed over.
    ///
    /// In a page `{{status}}`, `{{reason}}` and `{{message}}` stand for the status code, its name and
    /// what is told beside them, escaped for HTML. Blocks. What changes in the directory later has no
    /// effect.
    ///
    /// # Errors
    /// When the directory or a page can't be read, when there are too many pages, when one is too
    /// long, no UTF-8 text or no regular file (links are not followed), and when a file's name is
    /// almost that of a page, such as `50x.html`.
    pub fn load(dir: &Path) -> Result<ErrorPages, ErrorPagesError> {
        let failed = |source| ErrorPagesError::Io {
            path: dir.to_owned(),
            source,
        };
        let mut pages = BTreeMap::new();
        for entry in std::fs::read_dir(dir).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            let Some(name) = Name::of(&path)? else {
                continue;
            };
            if pages.len() == ErrorPages::MAX_PAGES {
                return Err(ErrorPagesError::TooMany {
                    dir: dir.to_owned(),
                });
            }
            pages.insert(name, Arc::new(PageTemplate::parse(&read(&path)?)));
        }
        Ok(ErrorPages { pages })
    }

    /// The page for an answer of the proxy's own.
    pub(crate) fn find(&self, status: u16, is_maintenance: bool) -> Option<&Arc<PageTemplate>> {
        let maintenance = is_maintenance.then_some(Name::Maintenance);
        let names = [Name::Status(status), Name::Class(status / 100)];
        let mut names = maintenance.into_iter().chain(names);
        names.find_map(|name| self.pages.get(&name))
    }
}

impl fmt::Debug for ErrorPages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.pages.keys()).finish()
    }
}

impl Name {
    /// Nothing if it is no page's, and was not meant to be.
    fn of(path: &Path) -> Result<Option<Name>, ErrorPagesError> {
        let Some(stem) = path.file_name().and_then(|name| {
            let name = name.to_str()?;
            name.strip_suffix(".html")
        }) else {
            return Ok(None);
        };
        let status = stem.parse().ok().filter(|_| stem.len() == 3);
        match (stem, status) {
            ("maintenance", _) => Ok(Some(Name::Maintenance)),
            ("4xx", _) => Ok(Some(Name::Class(4))),
            ("5xx", _) => Ok(Some(Name::Class(5))),
            (_, Some(status @ 400..=599)) => Ok(Some(Name::Status(status))),
            _ if stem.starts_with(|first: char| first.is_ascii_digit()) => {
                Err(ErrorPagesError::UnknownName {
                    path: path.to_owned(),
                })
            }
            _ => Ok(None),
        }
    }
}

/// Reads a regular file of a tolerable size.
fn read(path: &Path) -> Result<String, ErrorPagesError> {
    let path = || path.to_owned();
    let failed = |source: io::Error| match source.raw_os_error() {
        // What `O_NOFOLLOW` gives for a link.
        Some(number) if number == rustix::io::Errno::LOOP.raw_os_error() => {
            ErrorPagesError::NotAFile { path: path() }
        }
        _ => ErrorPagesError::Io {
            path: path(),
            source,
        },
    };
    // A pipe without a writer must not be waited for.
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file: File = OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits().cast_signed())
        .open(path())
        .map_err(failed)?;
    if !file.metadata().map_err(failed)?.is_file() {
        return Err(ErrorPagesError::NotAFile { path: path() });
    }
    let mut bytes = Vec::new();
    file.take(ErrorPages::MAX_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    if bytes.len() as u64 > ErrorPages::MAX_BYTES {
        return Err(ErrorPagesError::TooLong { path: path() });
    }
    String::from_utf8(bytes).map_err(|_| ErrorPagesError::NotText { path: path() })
}

/// Why a directory's pages can't be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ErrorPagesError {
    /// The file system refused.
    #[error("cannot read {}", path.display())]
    Io {
        /// The directory or the page.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A directory, a link or another thing has a page's name.
    #[error("{} is not a regular file", path.display())]
    NotAFile {
        /// The thing.
        path: PathBuf,
    },
    /// A page is longer than [`ErrorPages::MAX_BYTES`].
    #[error("{} is longer than {} KiB", path.display(), ErrorPages::MAX_BYTES >> 10)]
    TooLong {
        /// The page.
        path: PathBuf,
    },
    /// A page is not UTF-8.
    #[error("{} is not UTF-8 text", path.display())]
    NotText {
        /// The page.
        path: PathBuf,
    },
    /// A file seems to be meant as a page, but would never be used.
    #[error("{} is the page of no status", path.display())]
    UnknownName {
        /// The file.
        path: PathBuf,
    },
    /// There are more than [`ErrorPages::MAX_PAGES`].
    #[error("{} has more than {} pages", dir.display(), ErrorPages::MAX_PAGES)]
    TooMany {
        /// The directory.
        dir: PathBuf,
    },
}

impl ErrorPagesError {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            ErrorPagesError::Io { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                "`error_pages` names a directory with pages such as `502.html` and `5xx.html`"
            }
            ErrorPagesError::Io { .. } => return None,
            ErrorPagesError::NotAFile { .. } => "put the page itself there: links are not followed",
            ErrorPagesError::TooLong { .. } => {
                "leave images and styles to another place: the page may refer to them"
            }
            ErrorPagesError::NotText { .. } => "save it as UTF-8, which pages are served as",
            ErrorPagesError::UnknownName { .. } => {
                "a page is `400.html` to `599.html`, `4xx.html`, `5xx.html` or `maintenance.html`"
            }
            ErrorPagesError::TooMany { .. } => {
                "`4xx.html` and `5xx.html` serve for all that have no page"
            }
        };
        Some(hint.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Dir(PathBuf);

    impl Dir {
        fn new(name: &str) -> Dir {
            let dir =
                std::env::temp_dir().join(format!("vela-pages-{}-{name}", std::process::id()));
            std::fs::create_dir(&dir).unwrap();
            Dir(dir)
        }

        fn write(&self, name: &str, text: impl AsRef<[u8]>) {
            std::fs::write(self.0.join(name), text).unwrap();
        }

        fn load(&self) -> Result<ErrorPages, ErrorPagesError> {
            ErrorPages::load(&self.0)
        }
    }

    impl Drop for Dir {
        fn drop(&mut self) {
            std::fs::remove_dir_all(&self.0).unwrap();
        }
    }

    fn found(pages: &ErrorPages, status: u16, is_maintenance: bool) -> Option<String> {
        let page = pages.find(status, is_maintenance)?;
        let parts: Vec<_> = page.fill("", "", "").collect();
        Some(parts.concat())
    }

    #[test]
    fn the_page_that_says_most_is_found() {
        let dir = Dir::new("found");
        for name in ["404.html", "4xx.html", "503.html", "5xx.html"] {
            dir.write(name, name);
        }
        for other in ["index.html", "styles.css", "502.txt", "x404.html"] {
            dir.write(other, "other");
        }
        std::fs::create_dir(dir.0.join("images")).unwrap();
        let pages = dir.load().unwrap();
        for (status, is_maintenance, name) in [
            (404, false, "404.html"),
            (400, false, "4xx.html"),
            (503, false, "503.html"),
            (503, true, "503.html"),
            (504, false, "5xx.html"),
        ] {
            assert_eq!(found(&pages, status, is_maintenance).unwrap(), name);
        }
        assert_eq!(found(&pages, 308, false), None);
        dir.write("maintenance.html", "closed");
        let pages = dir.load().unwrap();
        assert_eq!(found(&pages, 503, true).unwrap(), "closed");
        assert_eq!(found(&pages, 503, false).unwrap(), "503.html");
    }

    #[test]
    fn what_can_be_no_page_is_refused_by_name() {
        type Made = fn(&Dir);
        let cases: [(&str, Made, &str); 7] = [
            (
                "almost",
                |dir| dir.write("50x.html", ""),
                "50x.html is the page of no",
            ),
            (
                "ok",
                |dir| dir.write("200.html", ""),
                "200.html is the page of no",
            ),
            (
                "link",
                |dir| std::os::unix::fs::symlink("/etc/passwd", dir.0.join("502.html")).unwrap(),
                "502.html is not a regular",
            ),
            (
                "directory",
                |dir| std::fs::create_dir(dir.0.join("502.html")).unwrap(),
                "502.html is not a regular",
            ),
            (
                "long",
                |dir| dir.write("502.html", vec![b'x'; 256 * 1024 + 1]),
                "502.html is longer than 256 KiB",
            ),
            (
                "bytes",
                |dir| dir.write("502.html", [0xff]),
                "502.html is not UTF-8",
            ),
            (
                "many",
                |dir| (400..465).for_each(|status| dir.write(&format!("{status}.html"), "")),
                "has more than 64",
            ),
        ];
        for (name, make, message) in cases {
            let dir = Dir::new(name);
            make(&dir);
            let error = dir.load().unwrap_err();
            assert!(error.to_string().contains(message), "{error}");
            assert!(error.hint().is_some());
        }
        let missing = ErrorPages::load(Path::new("/nonexistent/errors")).unwrap_err();
        assert!(missing.to_string().contains("/nonexistent/errors"));
        assert!(missing.hint().is_some());
    }

    #[test]
    fn a_pipe_is_not_waited_for() {
        let dir = Dir::new("pipe");
        let mode = rustix::fs::Mode::RWXU;
        let pipe = rustix::fs::FileType::Fifo;
        rustix::fs::mknodat(rustix::fs::CWD, dir.0.join("502.html"), pipe, mode, 0).unwrap();
        assert!(matches!(dir.load(), Err(ErrorPagesError::NotAFile { .. })));
    }

    #[test]
    fn a_page_may_be_as_long_as_is_said() {
        let dir = Dir::new("longest");
        dir.write("502.html", vec![b'x'; 256 * 1024]);
        let pages = dir.load().unwrap();
        assert_eq!(found(&pages, 502, false).unwrap().len(), 256 * 1024);
        assert_eq!(format!("{pages:?}"), "{Status(502)}");
    }
}
