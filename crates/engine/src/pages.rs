//! What to say when huge pages were asked for and are not there.

use warpline_frame::Pages;

/// What packet memory is on instead of the huge pages that were asked for, in words; `None` if nothing is to be said.
pub(crate) fn instead_of_huge(asked: bool, got: Option<Pages>) -> Option<&'static str> {
    match got {
        _ if !asked => None,
        Some(Pages::Huge) => None,
        Some(Pages::Transparent) => Some(
            "base pages that the kernel may merge (/sys/kernel/mm/transparent_hugepage/enabled says whether it does)",
        ),
        Some(Pages::Base) => Some("base pages"),
        None => Some("the heap"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn something_is_said_exactly_if_the_wish_is_not_met() {
        assert_eq!(instead_of_huge(true, Some(Pages::Huge)), None);
        for got in [Some(Pages::Transparent), Some(Pages::Base), None] {
            assert!(instead_of_huge(true, got).is_some_and(|said| !said.contains('\n')));
            assert_eq!(instead_of_huge(false, got), None);
        }
    }
}
