# conformance(NAME MIN "OPTIONS" DIR...): the fewest cases that must pass; none may fail.
