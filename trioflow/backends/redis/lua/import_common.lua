-- include: base activities instances limiting relimiting sharing moving
-- Put in place what belongs to no instance. ARGV: nonce, again, source, the id of the move, a new version
-- of the limits, what is shared, the limits. Returns 0 if the store is not the destination of that move.

local before = answered(ARGV[1], ARGV[2])
if before then
  return before[1]
end
if not is_destination(ARGV[4]) then
  return 0
end
local names = {}
for _, shared in ipairs(cmsgpack.unpack(ARGV[6])) do
  local name = shared[1]
  redis.call('DEL', P .. 'claims:' .. name, P .. 'claim:' .. name)
  redis.call('HDEL', P .. 'shared', name)
  if shared[2] then
    redis.call('HSET', P .. 'shared', name, '1')
  end
  for _, claim in ipairs(shared[3]) do
    local id, execution, life, command = claim[1], claim[2], claim[3], claim[4]
    local token = token_of(id, execution, command, life)
    redis.call('ZADD', P .. 'claims:' .. name, next_number('message'), token)
    local packed = cmsgpack.pack({ id, execution, life, claim[5], claim[6], claim[7] })
    redis.call('HSET', P .. 'claim:' .. name, token, packed)
    redis.call('SADD', P .. 'claims-of:' .. id, name)
  end
end
flush()
for _, one in ipairs(cmsgpack.unpack(ARGV[7])) do
  local kind, name, limit, per, has_key, state = unpack(one)
  store_limit(ARGV[5], kind, name, limit, per, has_key)
  redis.call('SET', P .. 'limit:' .. kind .. ':' .. name, state)
end
return answer(ARGV[1], { 1 })[1]
