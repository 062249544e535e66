-- include: base activities instances limiting sharing
-- Return what belongs to no instance: name, whether it is set, and the claims that can be used, packed,
-- of all that is shared; and each limit, packed, and its state, packed, or ''.

local names = {}
for _, name in ipairs(redis.call('HKEYS', P .. 'shared')) do
  names[name] = true
end
for _, status in ipairs({ 'running', 'suspended' }) do
  for _, id in ipairs(redis.call('ZRANGE', P .. 'status:' .. status, 0, -1)) do
    for _, name in ipairs(redis.call('SMEMBERS', P .. 'claims-of:' .. id)) do
      names[name] = true
    end
  end
end
local shared, limits = {}, {}
for name in pairs(names) do
  local claims = {}
  for _, token in ipairs(redis.call('ZRANGE', P .. 'claims:' .. name, 0, -1)) do
    local claim = cmsgpack.unpack(redis.call('HGET', P .. 'claim:' .. name, token))
    if is_usable(claim) then
      local _, _, command = parse_token(token)
      claims[#claims + 1] = {
        claim[1], claim[2], claim[3], command, claim[4], claim[5], claim[6] and 1 or 0,
      }
    end
  end
  shared[#shared + 1] = { name, redis.call('HEXISTS', P .. 'shared', name), claims }
end
local stored = redis.call('HGETALL', P .. 'limits')
for at = 1, #stored, 2 do
  if string.match(stored[at], '^%l+:') then
    limits[#limits + 1] = { stored[at + 1], redis.call('GET', P .. 'limit:' .. stored[at]) or '' }
  end
end
return { shared, limits }
