-- include: base
-- Return each limit, packed, and its state, packed, or ''.

local limits = {}
local stored = redis.call('HGETALL', P .. 'limits')
for at = 1, #stored, 2 do
  if string.match(stored[at], '^%l+:') then
    limits[#limits + 1] = { stored[at + 1], redis.call('GET', P .. 'limit:' .. stored[at]) or '' }
  end
end
return limits
