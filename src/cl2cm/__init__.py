"""Search pictures and films in any language, without labelled pairs in it."""
