-- include: base
-- Return names of what instances share: of what is set, and of the claims of some unfinished ones.
-- ARGV: a status, the seq after which to look, how many instances to look at. Returns the seq after
-- which to go on, or '', then the names; some may be there several times.

local after, most = ARGV[2], tonumber(ARGV[3])
local reply = { '' }
if after == '-inf' then
  for _, name in ipairs(redis.call('HKEYS', P .. 'shared')) do
    reply[#reply + 1] = name
  end
end
local found = redis.call(
  'ZRANGEBYSCORE', P .. 'status:' .. ARGV[1], after, '+inf', 'WITHSCORES', 'LIMIT', 0, most
)
for at = 1, #found, 2 do
  for _, name in ipairs(redis.call('SMEMBERS', P .. 'claims-of:' .. found[at])) do
    reply[#reply + 1] = name
  end
end
if #found == 2 * most then
  reply[1] = '(' .. found[#found]
end
return reply
