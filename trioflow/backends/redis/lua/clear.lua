-- include: base moving
-- Remove a part of what the store holds, but for what it knows of the move. ARGV: nonce, again, source,
-- the id of the move, where to go on or '0'. Returns where to go on, '0' at the end, or '' if the store
-- is not being cleared of what that move has put there.

if not is_emptied(ARGV[4]) then
  return ''
end
local pattern = string.gsub(P, '[%*%?%[%]%^\\]', '\\%0') .. '*'
local found = redis.call('SCAN', ARGV[5], 'MATCH', pattern, 'COUNT', 1000)
for _, key in ipairs(found[2]) do
  if key ~= P .. 'fence' and key ~= P .. 'schema' then
    redis.call('UNLINK', key)
  end
end
publish(ARGV[3])
return found[1]
