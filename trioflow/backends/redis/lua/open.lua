-- include: base
-- Make the store, or look which schema it has. ARGV: schema. Returns: now, schema.

local schema = redis.call('GET', P .. 'schema')
-- Written in any case: it fails now, not at the first commit, where nothing can be written.
redis.call('SET', P .. 'schema', schema or ARGV[1])
return { exact(now), schema or ARGV[1] }
