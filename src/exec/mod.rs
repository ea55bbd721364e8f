//! stub
/// stub
pub struct Executor;
impl Executor {
    /// stub
    pub fn new(_: crate::store::Store) -> Self { Self }
    /// stub
    pub fn cancel_all(&self) {}
    /// stub
    pub fn empty_trash(&self) {}
}
