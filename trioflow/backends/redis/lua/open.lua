-- include: base
-- Make the store, or look which schema it has. ARGV: schema, source. Returns: now, schema.

local schema = redis.call('GET', P .. 'schema')
-- Done in any case: they fail now, not within a commit, where they are not allowed.
publish(ARGV[2])
-- What an older schema left is read as it is.
local known = schema and tonumber(schema)
local older = known and known < tonumber(ARGV[1])
redis.call('SET', P .. 'schema', (not schema or older) and ARGV[1] or schema)
return { exact(now), schema or ARGV[1] }
