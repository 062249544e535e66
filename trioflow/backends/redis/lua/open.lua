-- include: base
-- Make the store, or look which schema it has. ARGV: schema, source. Returns: now, schema.

local schema = redis.call('GET', P .. 'schema')
-- Done in any case: they fail now, not within a commit, where they are not allowed.
publish(ARGV[2])
redis.call('SET', P .. 'schema', schema or ARGV[1])
return { exact(now), schema or ARGV[1] }
