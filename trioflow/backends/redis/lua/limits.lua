-- include: base limiting
-- Return the version of the limits, then each of them, packed.

local reply = { '' }
local stored = redis.call('HGETALL', P .. 'limits')
for at = 1, #stored, 2 do
  if stored[at] == '=version' then
    reply[1] = stored[at + 1]
  else
    reply[#reply + 1] = stored[at + 1]
  end
end
return reply
