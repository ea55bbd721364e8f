//! The images that were resolved for a plan.

use std::collections::HashMap;

use crate::oci::Platform;

use super::graph::{BaseOp, BaseOrigin, BaseRequest};

/// Resolved images in the order in which steps count them, found by what asks for them: a file may name thousands.
#[derive(Debug)]
pub(super) struct Bases<'a> {
    list: &'a [BaseOp],
    places: HashMap<(&'a BaseOrigin, &'a Platform), usize>,
}

impl<'a> Bases<'a> {
    pub(super) fn new(list: &'a [BaseOp]) -> Self {
        // The first of several counts.
        let places = list.iter().enumerate().rev().map(|(place, base)| (base.request.key(), place));
        Self { list, places: places.collect() }
    }

    /// Which one answers a request.
    pub(super) fn place(&self, request: &BaseRequest) -> Option<usize> {
        self.places.get(&request.key()).copied()
    }

    /// The one at a place that [`Bases::place`] gave.
    pub(super) fn at(&self, place: usize) -> &'a BaseOp {
        &self.list[place]
    }

    /// The one that answers a request.
    pub(super) fn find(&self, request: &BaseRequest) -> Option<&'a BaseOp> {
        self.place(request).map(|place| self.at(place))
    }
}
