-- include: base activities instances limiting sharing
-- Return what is known of names that instances share, as far as it fits. ARGV: the names, packed; how
-- many claims of the first one to leave out; how many to look at. Returns for each name until then
-- whether it is set, and the claims that can be used; and how many claims of the last one were looked
-- at, if there are more.

local names, first, room = cmsgpack.unpack(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local shared = {}
for _, name in ipairs(names) do
  local claims = {}
  local tokens = redis.call('ZRANGE', P .. 'claims:' .. name, first, first + room - 1)
  for _, token in ipairs(tokens) do
    local claim = cmsgpack.unpack(redis.call('HGET', P .. 'claim:' .. name, token))
    if is_usable(claim) then
      local _, _, command = parse_token(token)
      claims[#claims + 1] = {
        claim[1], claim[2], claim[3], command, claim[4], claim[5], claim[6] and 1 or 0,
      }
    end
  end
  shared[#shared + 1] = { redis.call('HEXISTS', P .. 'shared', name), claims }
  if #tokens == room then
    return { shared, first + room }
  end
  room, first = room - #tokens, 0
end
return { shared, 0 }
