//! PRPO's reward and its parts, VisualQuality-R1's, and the format.
