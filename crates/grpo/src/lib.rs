//! Group advantages, policy loss terms and their normalisation, in plain numbers.
