//! Which tokens of a completion are trained.

/// Number of a completion's tokens that carry loss: up to and with its first end token, else all.
#[must_use]
pub fn trained_tokens(ids: &[u32], end_tokens: &[u32]) -> usize {
    ids.iter().position(|id| end_tokens.contains(id)).map_or(ids.len(), |end| end + 1)
}

#[cfg(test)]
mod tests {
    use super::trained_tokens;

    #[test]
    fn nothing_after_the_first_end_token_is_trained() {
        assert_eq!(trained_tokens(&[5, 6, 2, 7, 1], &[1, 2]), 3);
        assert_eq!(trained_tokens(&[5, 6], &[1, 2]), 2);
        assert_eq!(trained_tokens(&[], &[1]), 0);
    }
}
