//! What lies elsewhere and is no image: git repositories, and files of web servers.

#[allow(
    clippy::disallowed_methods,
    reason = "folders that git fills for rbuild alone; what is read of them goes through a context"
)]
pub mod git;
#[allow(clippy::disallowed_methods, reason = "a file in a folder of rbuild's")]
pub mod http;
