"""Workers forked from a process that has imported everything already: for tests, which start many of them."""
