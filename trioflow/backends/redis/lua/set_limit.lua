-- include: base activities limiting relimiting
-- Set a limit. ARGV: nonce, again, source, new version, kind, name, packed Limit, its per, whether it
-- has a key.

local before = answered(ARGV[1], ARGV[2])
if before then
  return before
end
local version, kind, name, limit = ARGV[4], ARGV[5], ARGV[6], ARGV[7]
local field = kind .. ':' .. name
local stored = redis.call('HGET', P .. 'limits', field)
if stored and cmsgpack.unpack(stored).per ~= tonumber(ARGV[8]) then
  redis.call('DEL', P .. 'limit:' .. field) -- otherwise what has begun still counts
end
redis.call('HSET', P .. 'limits', '=version', version, field, limit)
if kind == 'workflow' then
  local key = P .. 'admitted:' .. name
  redis.call('DEL', key)
  for _, status in ipairs({ 'running', 'suspended' }) do
    for _, id in ipairs(redis.call('ZRANGE', P .. 'status:' .. status, 0, -1)) do
      local row = redis.call(
        'HMGET', P .. 'i:' .. id, 'workflow', 'life', 'turns', 'execution', 'first', 'worker', 'deaths'
      )
      if row[1] == name then
        local begun = row[3] ~= '0' or (row[5] or '1') ~= row[4] or (row[6] or '') ~= ''
          or (row[7] or '') ~= ''
        if begun then
          redis.call('HSET', key, id, row[2] or '')
        end
      end
    end
  end
elseif ARGV[9] == '0' and stored then
  forget_keys(stored)
end
publish(ARGV[3])
return answer(ARGV[1], 1)
