//! What an image is to keep to: options of `rbuild build` and `rbuild check-image`.

use clap::Args;

use super::request::bad;
use crate::cli::Failure;
use crate::insight::budget::{Amount, Budget, ratio, size};

/// In one place, because they belong together.
#[derive(Debug, Clone, Args)]
pub(crate) struct BudgetArgs {
    /// The most that the image's layers may have, compressed as registries keep them, such as 400MB
    #[arg(long, value_name = "SIZE", help_heading = "Budgets")]
    max_size: Option<String>,

    /// By how much they may be more than before, such as 10MB or 5%
    #[arg(long, value_name = "SIZE|%", help_heading = "Budgets")]
    max_growth: Option<String>,

    /// The most that files may have which are in several layers, as dive counts them, such as 20MB or 3%
    #[arg(long, value_name = "SIZE|%", help_heading = "Budgets")]
    max_waste: Option<String>,

    /// The least efficiency, which is dive's, such as 0.95 or 95%
    #[arg(long, value_name = "RATIO", help_heading = "Budgets")]
    min_efficiency: Option<String>,

    /// What growth is measured from: an image of the store, or a place as in `rbuild diff` [default: the last build of the same place]
    #[arg(long, value_name = "IMAGE", requires = "max_growth", help_heading = "Budgets")]
    pub(crate) growth_against: Option<String>,
}

impl BudgetArgs {
    /// The ids of these options.
    pub(crate) const IDS: [&'static str; 5] =
        ["max_size", "max_growth", "max_waste", "min_efficiency", "growth_against"];

    /// The name of one that was given.
    pub(crate) fn given(&self) -> Option<&'static str> {
        let all = [
            ("--max-size", self.max_size.is_some()),
            ("--max-growth", self.max_growth.is_some()),
            ("--max-waste", self.max_waste.is_some()),
            ("--min-efficiency", self.min_efficiency.is_some()),
        ];
        all.iter().find(|(_, is_given)| *is_given).map(|(name, _)| *name)
    }

    /// The limits.
    pub(crate) fn limits(&self) -> Result<Budget, Failure> {
        fn read<T>(
            option: &str,
            text: Option<&String>,
            parse: impl Fn(&str) -> Result<T, &'static str>,
        ) -> Result<Option<T>, Failure> {
            text.map(|text| parse(text).map_err(|reason| bad(option, text, reason))).transpose()
        }
        Ok(Budget {
            max_size: read("--max-size", self.max_size.as_ref(), size)?,
            max_growth: read("--max-growth", self.max_growth.as_ref(), str::parse::<Amount>)?,
            max_waste: read("--max-waste", self.max_waste.as_ref(), str::parse::<Amount>)?,
            min_efficiency: read("--min-efficiency", self.min_efficiency.as_ref(), ratio)?,
        })
    }
}
