-- Included by what clients call to change something, and where workers register: all of it is refused
-- while the store is closed, see moving.lua. What workers do needs no look, since none has a row then.
-- What was done before, and is called again as its answer was lost, is not refused.

local fence_text = redis.call('HGET', P .. 'fence', 'text')
if fence_text and not answered(ARGV[1], ARGV[2]) then
  return redis.error_reply('FENCED ' .. fence_text)
end
