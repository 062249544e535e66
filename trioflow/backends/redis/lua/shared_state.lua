-- include: base activities instances sharing
-- Return who has claims of a name. ARGV: the name. Returns 1 if it is set, then for each claim, in the
-- order of asking: the instance, and 1 if it is granted.

local name = ARGV[1]
local reply = { redis.call('HEXISTS', P .. 'shared', name) }
for _, token in ipairs(redis.call('ZRANGE', P .. 'claims:' .. name, 0, -1)) do
  local claim = cmsgpack.unpack(redis.call('HGET', P .. 'claim:' .. name, token))
  if is_usable(claim) then
    reply[#reply + 1] = claim[1]
    reply[#reply + 1] = claim[6] and 1 or 0
  end
end
return reply
