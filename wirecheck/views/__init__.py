"""One result, several faces. Every view is a pure function of a PairResult; nothing here knows how it was made."""
