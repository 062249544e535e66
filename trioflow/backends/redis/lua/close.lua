-- include: base
-- Wake a listener that has to end. ARGV: what it knows by.

publish(ARGV[1])
return 1
